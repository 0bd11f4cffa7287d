"""Stand-ins for the tools that the shell scripts call: each notes how it was called."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

UV = """#!/bin/bash
[ "$1" = --version ] && exit 0
echo "uv $*" >>"$CALLS"
[ -z "$UV_FAILS" ] || exit 1
if [ "$1" = venv ]; then
    mkdir -p .venv/bin
    ln -sf "{python}" .venv/bin/python
    printf '#!/bin/bash\\necho "msp $*" >>"$CALLS"\\n' >.venv/bin/msp
    chmod +x .venv/bin/msp
fi
"""


class ScriptFolder:
    """A copy of the scripts, and a PATH that holds only what they may use."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        self.tools = folder / "tools"
        self.calls_file = folder / "calls"
        shutil.copytree(REPOSITORY / "scripts", self.root / "scripts")
        (self.root / "requirements").mkdir()
        for name in ("dev", "build"):
            (self.root / f"requirements/{name}.txt").write_text("a==1 --hash=sha256:0\n")
        for member in ("common", "gateway", "registry", "service-registry", "model-service", "cli"):
            (self.root / member).mkdir()
            (self.root / member / "pyproject.toml").write_text("[project]\n")
        self.tools.mkdir()
        for tool in (
            "bash",
            "cat",
            "cut",
            "dirname",
            "env",
            "ln",
            "mkdir",
            "chmod",
            "rm",
            "sha256sum",
            "uname",
        ):
            found = shutil.which(tool)
            assert found, tool
            (self.tools / tool).symlink_to(found)

    def add_uv(self) -> None:
        self._add("uv", UV.replace("{python}", sys.executable))

    def add_python(self) -> None:
        (self.tools / "python3").symlink_to(sys.executable)

    def add_old_python(self) -> None:
        self._add("python3", "#!/bin/bash\nexit 1\n")

    def run(self, *arguments: str, code: int = 0, cwd: Path | None = None, **environ: str) -> str:
        done = subprocess.run(
            [str(self.root / "scripts/quickstart.sh"), *arguments],
            env={"PATH": str(self.tools), "CALLS": str(self.calls_file), "HOME": "/", **environ},
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            timeout=60,
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        return output

    def calls(self) -> list[str]:
        """What was called since the last look."""
        text = self.calls_file.read_text() if self.calls_file.exists() else ""
        self.calls_file.write_text("")
        return text.splitlines()

    def _add(self, name: str, script: str) -> None:
        path = self.tools / name
        path.write_text(script)
        os.chmod(path, 0o755)
