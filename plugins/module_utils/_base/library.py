# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Python library kubernetes, and PyYAML, which comes with it: what to do where they are missing."""

from __future__ import annotations

import sys
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError


def missing_library() -> BadInputError:
    return BadInputError(
        f"The Python library kubernetes is needed where this task runs; {sys.executable} lacks it: install it there with "
        "pip install kubernetes, or set ansible_python_interpreter to a Python that has it."
    )


def require_yaml() -> Any:
    """The module yaml. What reads a file of a master does so before anything else asks for the library."""
    try:
        import yaml
    except ImportError:
        raise missing_library() from None
    return yaml
