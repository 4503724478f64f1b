"""What the doctor found, by level. Imported by its tests."""


def of(findings: list[dict], level: str) -> dict[str, dict]:
    return {f["check"]: f for f in findings if f["level"] == level}
