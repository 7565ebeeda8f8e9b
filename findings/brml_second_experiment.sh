#!/usr/bin/env bash
# rietx 1.10.0, geddes 1.0.1: of a BRML with two experiments the first alone is there, and nothing tells of the other.
#
# A .brml is a zip archive with a folder for each experiment. Both readers open the first list of scans that they find:
# rietx lists one scan and gives scan_count 1; geddes finds no scan of index 1.
#
# Why it matters: whoever asks how many scans there are, to lose none, is told a wrong number.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    rietx==1.10.0 \
    geddes==1.0.1 \
    numpy==2.4.6
"$work/environment/bin/python" -I - "$work/two.brml" <<'PYTHON'
import sys
import zipfile

import geddes
from rietx.io.readers import list_scans, read_pattern

SCAN = """<?xml version="1.0"?><RawData xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><DataRoutes>
<DataRoute RouteFlag="Measured"><ScanInformation ScanName="coupled"><ScanAxes>
<ScanAxisInfo AxisId="TwoTheta" AxisName="TwoTheta" Unit="°"><Start>10</Start><Stop>10.4</Stop><Increment>0.1</Increment>
</ScanAxisInfo></ScanAxes></ScanInformation>{rows}<DataViews>
<RawDataView xsi:type="VaryingRawDataView" Start="0" Length="1"><Varying LogicName="ScanAxes">
<FieldDefinitions FieldName="TwoTheta" AxisId="TwoTheta"/></Varying></RawDataView>
<RawDataView xsi:type="RecordedRawDataView" Start="1" Length="1"><Recording LogicName="ScanCounter">
<Unit Prefix="None" Base="Counts"/></Recording></RawDataView></DataViews></DataRoute></DataRoutes></RawData>"""
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    for experiment in (0, 1):
        name = f"Experiment{experiment}/RawData0.xml"
        rows = "".join(f"<Datum>{10 + i / 10:.1f},{100 * (experiment + 1) + i}</Datum>" for i in range(5))
        listed = f"<RawDataReferenceList><string>{name}</string></RawDataReferenceList>"
        archive.writestr(f"Experiment{experiment}/DataContainer.xml", f"<DataContainer>{listed}</DataContainer>")
        archive.writestr(name, SCAN.format(rows=rows))
notes = []
found = read_pattern(sys.argv[1], diagnostics=notes)
print(f"rietx: {len(list_scans(sys.argv[1]))} scan, {found.metadata['scan_count']} by its metadata, {found.intensity}")
assert len(list_scans(sys.argv[1])) == 1 and found.metadata["scan_count"] == "1" and not notes, "it has changed"
print(f"geddes: {list(geddes.read(sys.argv[1], index=0).y)}")
try:
    print(list(geddes.read(sys.argv[1], index=1).y))
except (ValueError, IndexError) as error:
    print(f"geddes, index 1: {error}")
else:
    raise AssertionError("it has changed")
PYTHON
