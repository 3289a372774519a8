"""The examples' models as tests run them on real engines."""

from pathlib import Path

import yaml

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(file: str) -> list[dict]:
    """Its models. vLLM computes in float32: most CPUs compute bfloat16 in software, which makes a
    prompt cost four times as much, and hides what the size of a batch does.
    """
    models = yaml.safe_load((EXAMPLES / file).read_text())["models"]
    for model in models:
        for variant in model["variants"]:
            if variant["engine"] == "vllm":
                topology = variant["topology"]
                for role in (topology, topology.get("prefill"), topology.get("decode")):
                    if role and "memory" in role:
                        role["args"] = {**role.get("args", {}), "dtype": "float32"}
    return models


def written(file: Path, *models: dict) -> Path:
    file.write_text(yaml.safe_dump({"models": list(models)}))
    return file
