"""The targets of a run share its time, and are counted at its end."""

import fuzzed
import pytest

SECONDS = 60 * fuzzed.MINUTES + 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = [one for one in items if "fuzz" in one.path.parts]
    fuzzed.targets[:] = [one.name for one in found]
    for one in found:
        one.add_marker(pytest.mark.timeout(SECONDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for target, count in fuzzed.tried.items():
        found = fuzzed.escaped[target]
        terminalreporter.write_line(f"{target}: {count:,} inputs tried, {len(found)} escapes")
        for text in found.values():
            terminalreporter.write_line(f"  {text}")
    if fuzzed.tried:
        count, found = sum(fuzzed.tried.values()), sum(map(len, fuzzed.escaped.values()))
        terminalreporter.write_line(f"all: {count:,} inputs tried, {found} escapes")
