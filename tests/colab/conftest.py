"""Says at the end how much memory each notebook has taken."""


def pytest_terminal_summary(terminalreporter):
    rows = [row for report in terminalreporter.getreports("passed") for row in report.user_properties]
    if rows:
        terminalreporter.section("memory: the kernel with all its processes")
        for name, megabytes in sorted(rows):
            terminalreporter.write_line(f"{name}: at most {megabytes:,} MB")
