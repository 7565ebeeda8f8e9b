"""A Kubeflow Pipelines server: how it is reached, and each of its refusals and outages as one readable message."""

from __future__ import annotations

import json
import logging
import os
import ssl
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import kfp
import kfp_server_api
import urllib3
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH, ServiceAccountTokenVolumeCredentials

from imitation_refinement.errors import InputError
from imitation_refinement.progress import say

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"  # kfp's own, as the next two
UI_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"
TOKEN_VARIABLE = "KFP_EXISTING_TOKEN"
COOKIES_VARIABLE = "KFP_COOKIES"
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

TIMEOUT_S = (10.0, 60.0)  # to connect; for an answer
TRIES = 5
LONGEST_PAUSE_S = 60.0
SIGN_IN = (
    f"Sign in with a fresh token (--token-file FILE or {TOKEN_VARIABLE}) "
    f"or session cookie (--cookies FILE or {COOKIES_VARIABLE})."
)

T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    """How a server is reached. What is empty comes from kfp's environment variables, if it is needed.

    Attributes:
        host: the address that ``/apis/v2beta1`` is appended to, with http:// or https://.
        namespace: the user's namespace, of a server with several users.
        token_file: a file with a bearer token; read again for each request, as tokens of pods are renewed.
        cookies_file: a file with the text of a Cookie header, as ``authservice_session=…``.
        ca_certificate: a PEM file with the certificate authority of the server.
    """

    host: str = ""
    namespace: str = ""
    token_file: str = ""
    cookies_file: str = ""
    ca_certificate: str = ""


class Outage(Exception):
    """A request that may go well if it is made again; ``refusal`` is what to say if it does not."""

    def __init__(self, refusal: InputError, reached: bool) -> None:
        self.refusal, self.reached = refusal, reached
        super().__init__(str(refusal))


class _Client(kfp.Client):
    """kfp's client; its constructor would ask the server five times without a time limit, and log a traceback each."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        """What keeps the constructor from asking; :class:`Server` asks."""
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)


class Server:
    """A server that was reached and speaks v2beta1.

    Attributes:
        client: kfp's client; its ``pipelines``, ``runs`` … hold the generated requests.
        namespace: the namespace that requests name; None where the server has a single user.
    """

    def __init__(self, access: Access, tries: int = TRIES, pause: Callable[[float], None] = time.sleep) -> None:
        """Signs in and asks the server for its health.

        Args:
            access: the address and the credentials.
            tries: how often a request is made before an outage is reported.
            pause: waits that many seconds.

        Raises:
            InputError: if the server can't be reached, refuses, or needs a namespace.
        """
        self.host = (access.host or os.environ.get(HOST_VARIABLE, "")).rstrip("/")
        if not self.host.startswith(("http://", "https://")):
            raise InputError(
                f"host {self.host!r}",
                "is no address with http:// or https://.",
                f"Name the server with --host or {HOST_VARIABLE}, as http://localhost:8080.",
            )
        self.tries, self._pause, self._reached = tries, pause, False
        self.client = _connect(self.host, access)
        # Each request is reported here; urllib3 would log its own attempts, too, as kfp's client has just told it to.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        healthz: Any = self.client.healthzs.healthz_service_get_healthz
        self._requests = healthz.__self__.api_client
        health = self.ask(healthz)
        named = access.namespace or self.client.get_user_namespace()
        if health.multi_user and not named and POD_NAMESPACE.exists():
            named = POD_NAMESPACE.read_text(encoding="utf-8").strip()
        if health.multi_user and not named:
            raise InputError(self.host, "serves several users.", "Name your namespace with --namespace.")
        self.namespace = named or None

    def link(self, path: str) -> str:
        """The address of a page of the server's user interface."""
        return f"{os.environ.get(UI_VARIABLE, self.host).rstrip('/')}/#/{path}"

    def ask(self, request: Callable[..., T], tries: int = 0, **arguments: Any) -> T:
        """Makes a request that changes nothing, again where there is an outage.

        Raises:
            InputError: if the server refuses, or the outage lasts.
        """
        return self._insist(lambda: self.once(request, **arguments), tries or self.tries)

    def find_or_make(self, find: Callable[[], T | None], make: Callable[[], T]) -> tuple[T, bool]:
        """What ``find`` finds, else what ``make`` makes, and whether it was made.

        After an outage nobody knows whether the server has made it: it is looked for again before it is made again.

        Args:
            find: looks for it with :meth:`ask`.
            make: makes it with :meth:`once`.

        Raises:
            InputError: if the server refuses, or the outage lasts.
        """
        tried = False

        def attempt() -> tuple[T, bool]:
            nonlocal tried
            found = find()
            if found is not None:
                return found, tried
            tried = True
            return make(), True

        return self._insist(attempt, self.tries)

    def once(self, request: Callable[..., T], **arguments: Any) -> T:
        """Makes a request once.

        Raises:
            InputError: if the server refuses.
            Outage: if it may go well another time.
        """
        try:
            answer = request(**arguments, _request_timeout=TIMEOUT_S)
        except kfp_server_api.ApiException as error:
            raise self._refused(error) from None
        except urllib3.exceptions.HTTPError as error:
            raise self._unreached(error) from None
        except OSError as error:  # a token's file that has gone
            raise InputError(error.filename or self.host, f"can't be read ({error.strerror}).", SIGN_IN) from None
        text = self._requests.last_response.data
        if not text.lstrip().startswith("{"):  # kfp would read a page as an answer without content
            problem = "answers with a web page instead of the API's JSON, most often because it wants a login."
            raise InputError(self.host, problem, SIGN_IN + " Or check --host.")
        self._reached = True
        return answer

    def _insist(self, attempt: Callable[[], T], tries: int) -> T:
        for failed in range(tries):
            try:
                return attempt()
            except Outage as outage:
                if failed == tries - 1 or not (self._reached or outage.reached):
                    raise outage.refusal from None
                seconds = min(2.0**failed, LONGEST_PAUSE_S)
                say(f"{outage.refusal.where}: {outage.refusal.problem} Again in {seconds:.0f} s.")
                self._pause(seconds)
        raise AssertionError("unreachable: the last try returns or raises")

    def _refused(self, error: kfp_server_api.ApiException) -> Exception:
        """A refusal as what to raise."""
        status, said = error.status, _said(error.body)
        told = f"{status}{f': {said}' if said else f' {error.reason}'}"
        if status == 401:
            return InputError(self.host, f"does not accept the sign-in ({told}).", SIGN_IN)
        if status == 403:
            remedy = "Ask for access, or name a namespace of your own with --namespace."
            return InputError(self.host, f"does not allow that ({told}).", remedy)
        if status == 404 and not self._reached:
            remedy = "Check --host: the address of its page, without what follows from /# or /apis on."
            return InputError(self.host, f"has no Kubeflow Pipelines of version 2 ({told}).", remedy)
        if status == 409:  # somebody made it meanwhile, or an outage hid that it was made
            return Outage(
                InputError(self.host, f"says that it is there, and does not show it ({told}).", ""), reached=True
            )
        if status == 429 or status >= 500:
            remedy = "Try again later, or see the log of ml-pipeline."
            return Outage(InputError(self.host, f"is out of order ({told}).", remedy), reached=True)
        return InputError(self.host, f"refuses the request ({told}).", "")

    def _unreached(self, error: urllib3.exceptions.HTTPError) -> Exception:
        """A request without an answer as what to raise."""
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, urllib3.exceptions.SSLError):
            remedy = "Name the certificate of its authority with --ca-certificate."
            return InputError(self.host, f"has a certificate that can't be verified ({reason}).", remedy)
        if isinstance(reason, urllib3.exceptions.ResponseError):  # redirected again and again
            return InputError(self.host, "redirects without an end, most often to a login.", SIGN_IN)
        if isinstance(reason, urllib3.exceptions.ReadTimeoutError):
            problem, remedy = f"does not answer within {TIMEOUT_S[1]:.0f} s.", "Try again later."
        elif isinstance(reason, urllib3.exceptions.ProtocolError):
            problem, remedy = f"broke off the connection ({reason}).", "Check --host: http:// or https://?"
        else:
            problem = f"can't be reached ({str(reason).rpartition(': ')[2]})."
            remedy = "Check the address, and that a port-forward to it still runs."
        answers = isinstance(reason, urllib3.exceptions.ReadTimeoutError)
        return Outage(InputError(self.host, problem, remedy), reached=answers)


def _connect(host: str, access: Access) -> _Client:
    """kfp's client with the credentials that were given or are found."""
    if access.ca_certificate:
        try:
            ssl.create_default_context(cafile=access.ca_certificate)
        except OSError as error:  # ssl.SSLError is one
            raise InputError(access.ca_certificate, f"is no PEM certificate ({error}).", "Check the file.") from None
    token = "" if access.token_file else os.environ.get(TOKEN_VARIABLE, "")
    path = access.token_file or os.environ.get(KF_PIPELINES_SA_TOKEN_ENV, "")
    if not path and Path(KF_PIPELINES_SA_TOKEN_PATH).exists():
        path = KF_PIPELINES_SA_TOKEN_PATH  # in a pod that Kubeflow gives a token for this
    if path and not token:
        _secret(path)
    cookies = _secret(access.cookies_file) if access.cookies_file else os.environ.get(COOKIES_VARIABLE)
    address = urlsplit(host)
    proxy = None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "only works with Kubeflow Pipelines 2"
        return _Client(
            host=host,
            existing_token=token or None,
            credentials=ServiceAccountTokenVolumeCredentials(path) if path and not token else None,
            cookies=cookies,
            proxy=proxy,
            ssl_ca_cert=access.ca_certificate or None,
        )


def _secret(path: str) -> str:
    """The text of a file with a token or cookies."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"can't be read ({error}).", "Check the file.") from None
    if not text or "\n" in text:
        raise InputError(path, "is empty or has several lines.", "Give a file with one line and nothing else.")
    return text


def _said(body: str | None) -> str:
    """The server's own words, shortened: the message of its JSON, or a plain text; nothing of a page."""
    text = (body or "").strip()
    try:
        said = json.loads(text)
    except ValueError:
        return "" if text.startswith("<") else text[:300]
    return str(said.get("message") or said.get("error") or "")[:300] if isinstance(said, dict) else ""
