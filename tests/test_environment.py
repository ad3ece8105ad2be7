"""What is written down of the machine."""

import subprocess
import sys


def test_environment_names_versions_without_loading_torch() -> None:
    code = (
        "import sys; from synfoc.environment import environment; e = environment();"
        "print(e['versions']['torch'], 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, torch_loaded, numpy_loaded = done.stdout.split()
    assert version[0].isdigit()
    assert (torch_loaded, numpy_loaded) == ("False", "False")
