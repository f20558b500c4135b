# SPDX-License-Identifier: Apache-2.0
"""Writes ``pi0.safetensors``: what LeRobot's ``PI0Policy`` computes at reduced width.

Run in an environment with LeRobot's ``pi`` extra (this suite's own has none)::

    python make_pi0.py

Weights and tokenizer come from ``pi0_weights.py``, so that only names, shapes, inputs and outputs
need to be stored.
"""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.processor_pi0 import Pi0NewLineProcessor
from lerobot.processor import TokenizerProcessorStep
from peft import LoraConfig, get_peft_model
from pi0_weights import weight, write_tokenizer
from safetensors.torch import save_file
from transformers import PaliGemmaConfig

SIZE, HORIZON, TEXT, WIDTH = 28, 6, 12, 32
CAMERAS = ("base", "wrist", "absent")
TASKS = ("pick up the red cube", "open the drawer, then press the button and put the cube away")


def small_configurations() -> None:
    """Replaces the two sizes that LeRobot offers, and the vision tower's, by small ones."""
    small = {
        "gemma_2b": modeling_pi0.GemmaConfig(WIDTH, 2, 64, 8, 1, 16),
        "gemma_300m": modeling_pi0.GemmaConfig(24, 2, 48, 8, 1, 16),
    }
    modeling_pi0.get_gemma_config = small.__getitem__
    vision = modeling_pi0.CONFIG_MAPPING["siglip_vision_model"]
    paligemma = modeling_pi0.CONFIG_MAPPING["paligemma"]

    def small_paligemma() -> PaliGemmaConfig:
        config = paligemma()
        config.vision_config = vision(
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=3,
            patch_size=14,
            vision_use_head=False,
        )
        return config

    model = modeling_pi0.PaliGemmaForConditionalGenerationWithPiGemma

    def small_model(config: PaliGemmaConfig) -> object:
        config.vision_config.projection_dim = WIDTH  # LeRobot has set the full model's
        return model(config=config)

    modeling_pi0.PaliGemmaForConditionalGenerationWithPiGemma = small_model
    modeling_pi0.CONFIG_MAPPING = {
        "paligemma": small_paligemma,
        "gemma": modeling_pi0.CONFIG_MAPPING["gemma"],
    }


def lora(policy: modeling_pi0.PI0Policy) -> modeling_pi0.PI0Pytorch:
    """A copy of the policy's model with an adapter, which is written beside this file."""
    targets = policy._get_default_peft_targets()["target_modules"]
    adapted = get_peft_model(
        copy.deepcopy(policy), LoraConfig(r=2, lora_alpha=1, target_modules=targets)
    )
    adapted.load_state_dict(
        {
            name: weight(name, tuple(w.shape)) if "lora_" in name else w
            for name, w in adapted.state_dict().items()
        }
    )
    folder = Path(__file__).parent / "pi0_lora"
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink()  # a form that peft writes
    return adapted.base_model.model.model


def main() -> None:
    """Builds the policy, runs it and writes what went in and what came out."""
    small_configurations()
    config = PI0Config(
        chunk_size=HORIZON,
        n_action_steps=HORIZON,
        image_resolution=(SIZE, SIZE),
        tokenizer_max_length=TEXT,
        device="cpu",
        input_features={
            **{
                f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE))
                for name in CAMERAS
            },
            "observation.state": PolicyFeature(FeatureType.STATE, (9,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
    )
    policy = modeling_pi0.PI0Policy(config)
    policy.eval()
    state = policy.state_dict()
    policy.load_state_dict({name: weight(name, tuple(w.shape)) for name, w in state.items()})

    rng = np.random.default_rng(7)
    images = {  # two shapes, so that both directions are padded
        "base": rng.integers(0, 256, (len(TASKS), 30, 52, 3), dtype=np.uint8),
        "wrist": rng.integers(0, 256, (len(TASKS), 61, 40, 3), dtype=np.uint8),
    }
    robot_state = torch.from_numpy(rng.standard_normal((len(TASKS), 9)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal((len(TASKS), HORIZON, 32)).astype(np.float32))

    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        step = TokenizerProcessorStep(
            tokenizer_name=folder, max_length=TEXT, padding_side="right", padding="max_length"
        )
    tasks = Pi0NewLineProcessor().complementary_data({"task": list(TASKS)})["task"]
    tokens = step._tokenize_text(tasks)
    batch = {
        **{
            f"observation.images.{name}": torch.from_numpy(value).permute(0, 3, 1, 2) / 255.0
            for name, value in images.items()
        },
        "observation.state": robot_state,
        "observation.language.tokens": tokens["input_ids"],
        "observation.language.attention_mask": tokens["attention_mask"].bool(),
    }
    preprocessed, masks = policy._preprocess_images(batch)
    padded = policy.prepare_state(batch)
    arguments = (preprocessed, masks, tokens["input_ids"], tokens["attention_mask"].bool(), padded)
    golden = {
        "noise": noise,
        "state": robot_state,
        "tokens": tokens["input_ids"],
        "token_mask": tokens["attention_mask"].bool(),
        "preprocessed": torch.stack(preprocessed, dim=1),
        "camera_mask": torch.stack(masks, dim=1),
        "actions": policy.model.sample_actions(*arguments, noise=noise),
        "actions_lora": lora(policy).sample_actions(*arguments, noise=noise),
        "one_step": policy.model.sample_actions(*arguments, noise=noise, num_steps=1),
        **{f"image.{name}": torch.from_numpy(value) for name, value in images.items()},
    }
    description = {
        "tasks": TASKS,
        "cameras": CAMERAS,
        "weights": {name: list(w.shape) for name, w in state.items()},
    }
    save_file(
        {name: value.contiguous() for name, value in golden.items()},
        Path(__file__).parent / "pi0.safetensors",
        metadata={"description": json.dumps(description)},
    )


if __name__ == "__main__":
    main()
