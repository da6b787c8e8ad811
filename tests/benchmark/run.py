# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make bench``: measures, prints a table, and writes build/benchmark.json and build/benchmark.svg.

Parts measured in earlier runs stay in the JSON and the picture until they are measured again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmark import figures, picture, tools  # noqa: E402
from tests.benchmark.bench import Bench  # noqa: E402
from tests.benchmark.parts import PARTS  # noqa: E402
from tests.control_plane.build import BuildError, kubernetes_version  # noqa: E402
from tests.control_plane.cluster import ClusterError  # noqa: E402
from tests.control_plane.hosts import HostError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks all sizes, to try out the benchmark itself")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where results are written")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.build.mkdir(exist_ok=True)
    path = options.build / "benchmark.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"parts": {}}
    folder = Path(tempfile.mkdtemp(prefix="kube-storage-benchmark-"))
    missed = False
    try:
        for name in options.parts or PARTS:
            print(f"{name} …", file=sys.stderr, flush=True)
            started = time.monotonic()
            part = PARTS[name](Bench(folder, options.rounds, options.scale)).as_dict()
            part.update(
                measured=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                seconds=round(time.monotonic() - started),
                rounds=options.rounds,
                scale=options.scale,
                machine={**tools.machine(), "kubernetes": kubernetes_version()},
            )
            report["parts"][name] = part
            report["parts"] = {name: report["parts"][name] for name in PARTS if name in report["parts"]}
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            (options.build / "benchmark.svg").write_text(picture.draw(report), encoding="utf-8")
            print(figures.table(part) + "\n", flush=True)
            missed = missed or any(check["met"] is False for check in part["checks"])
    except (BuildError, ClusterError, HostError, tools.BenchmarkError) as error:
        print(f"The benchmark stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what was measured is kept.", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Written: {path} and {options.build / 'benchmark.svg'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
