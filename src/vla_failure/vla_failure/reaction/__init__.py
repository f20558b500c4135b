# SPDX-License-Identifier: Apache-2.0
"""What becomes of a verdict: one state machine for a running robot and for lockstep simulation."""

from .reaction import STEP_DT, ArmState, Phase, Reaction, ReactionConfig, RetraceChunk

__all__ = ["STEP_DT", "ArmState", "Phase", "Reaction", "ReactionConfig", "RetraceChunk"]
