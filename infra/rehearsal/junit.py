"""A rehearsal as JUnit XML: a suite with a case a check, and one with a case a step."""

import re
from collections.abc import Collection, Sequence
from xml.etree import ElementTree as ET

from infra.rehearsal.report import counted, unseen
from infra.rehearsal.result import CheckResult, Rehearsal, StepResult

# What XML 1.0 cannot hold, escaped or not (its production Char). A message may quote what a program printed.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(rehearsal: Rehearsal) -> str:
    """The document. A check that is not tested is `skipped`; a case of the second suite has its step's seconds."""
    suites = ET.Element("testsuites", name=f"rehearsal of {rehearsal.environment}")
    suites.append(_suite("checks", [_check(each) for each in rehearsal.checks], rehearsal))
    suites.append(_suite("steps", [_step(each, rehearsal.failed) for each in rehearsal.steps], rehearsal))
    ET.indent(suites)
    return f"{ET.tostring(suites, encoding='unicode', xml_declaration=True)}\n"


def _suite(name: str, cases: Sequence[ET.Element], rehearsal: Rehearsal) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=name,
        timestamp=rehearsal.started,
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors="0",
        skipped=str(sum(case.find("skipped") is not None for case in cases)),
        time=f"{sum(float(case.get('time', 0)) for case in cases):.1f}",
    )
    for case in cases:
        case.set("classname", f"kiban.rehearsal.{rehearsal.environment}.{name}")
        suite.append(case)
    return suite


def _check(check: CheckResult) -> ET.Element:
    case = ET.Element("testcase", name=check.check)
    match check.outcome:
        case "failed":
            failure = ET.SubElement(
                case, "failure", message=f"{check.title}: {counted(len(check.findings), 'finding')}"
            )
            failure.text = _xml(
                "\n".join(f"{each.object} ({each.step}): {each.message}\n  {each.remedy}" for each in check.findings)
            )
        case "not-tested":
            ET.SubElement(case, "skipped", message=unseen(check))
        case "passed":
            ET.SubElement(case, "system-out").text = f"{check.title}: {check.evidence}, {check.looked_at} looked at"
    return case


def _step(step: StepResult, failed: Collection[str]) -> ET.Element:
    case = ET.Element("testcase", name=step.name, time=f"{step.seconds:.1f}")
    if step.name in failed:
        ET.SubElement(case, "failure", message="the step failed; what the checks found says why")
    elif not step.ok:
        ET.SubElement(case, "system-out").text = "failed, and went through when it was taken again"
    return case


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
