"""What MLflow runs to load a served model; a copy of this file is in each."""

from mlflow.models import set_model

from imitation_refinement.tracking.served import Served

set_model(Served())
