# SPDX-License-Identifier: Apache-2.0
"""What a score means for the robot: go on, warn, stop, go back, ask, or refuse to judge.

It fails closed. Whatever cannot be judged (no calibration for what runs, features that are missing,
late, not finite or out of shape, a world that the calibration never saw) ends in ABSTAIN, with the
reason; and every decision that ends the episode stays until ``reset``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .binding import Binding
from .calibration import Calibration
from .calibration.band import Band
from .calibration.drift import DriftTest
from .decision import Decision
from .detectors import Detector
from .episodes import FailureDetectionError, Start, Step

# Where an alarm may lead.
REACTIONS = (Decision.STOP, Decision.BACKTRACK, Decision.ASK_HELP)


@dataclass(frozen=True)
class MonitorConfig:
    """How alarms become decisions.

    Attributes:
        reaction: To an alarm; ``BACKTRACK`` becomes ``ASK_HELP`` once ``retries`` are used up.
        retries: How often per episode it may go back.
        persistence: Consecutive inferences above the band that make an alarm. The promise holds for
            one; for more, false alarms are rarer still, and true ones later.
        warning: WARN when the score is within so many m_t of the band.
        drift_level: ABSTAIN when the drift test's p-value is at most this; it adds at most as much
            to the rate of false alarms.
        max_age: ABSTAIN when an observation is older than this, s.
        allow_uncalibrated: Whether to go on without a calibration, where nothing can alarm.
    """

    reaction: Decision = Decision.STOP
    retries: int = 1
    persistence: int = 1
    warning: float = 0.5
    drift_level: float = 0.005
    max_age: float = 0.6
    allow_uncalibrated: bool = False

    def __post_init__(self) -> None:
        if self.reaction not in REACTIONS:
            raise FailureDetectionError(
                f"reaction is {self.reaction!r}; valid: {', '.join(r.name for r in REACTIONS)}"
            )
        for name, least in (("retries", 0), ("persistence", 1), ("warning", 0.0)):
            value = getattr(self, name)
            if not least <= value < np.inf:
                raise FailureDetectionError(f"{name} is {value}; valid: {least} or more")
        if not 0.0 <= self.drift_level < 1.0:
            raise FailureDetectionError(f"drift_level is {self.drift_level}; valid: 0 to below 1")
        if not 0.0 < self.max_age < np.inf:
            raise FailureDetectionError(f"max_age is {self.max_age}; valid: > 0")


@dataclass(frozen=True)
class Status:
    """The verdict on one inference.

    Attributes:
        decision: What shall be done.
        reason: Why, in one line.
        step: Inferences judged since the start of the episode; 0 = none.
        score: s_t; NaN where there is none.
        threshold: δ_t; NaN where there is none.
        margin: From the score up to the band, in m_t; negative = above; NaN where there is none.
        alpha: Of the band; NaN where there is none.
        calibration_id: Of the calibration in force; empty = none.
        guarantee: What is promised, in words.
        drift_p: p-value of the drift test; NaN where there is none.
        signals: What the score is made of, by name.
        latency: Of judging, s.
    """

    decision: Decision
    reason: str
    step: int
    score: float
    threshold: float
    margin: float
    alpha: float
    calibration_id: str
    guarantee: str
    drift_p: float
    signals: dict[str, float]
    latency: float


class Monitor:
    """Follows the episodes of one robot. One thread.

    Args:
        detector: Fitted.
        detector_id: Its hash.
        running: Policy, sampler, schedule and cameras as they run; None = nothing is known yet.
        calibration: None for none.
        drift: None for none.
        config: How alarms become decisions.
    """

    def __init__(
        self,
        detector: Detector,
        detector_id: str,
        running: Binding | None,
        calibration: Calibration | None,
        drift: DriftTest | None = None,
        config: MonitorConfig | None = None,
    ) -> None:
        self._detector = detector
        self._detector_id = detector_id
        self._running = running
        self._calibration = calibration
        self._drift = drift
        self._config = config or MonitorConfig()
        self._latched: tuple[Decision, str] | None = None
        self._start: Start | None = None
        self._retries = 0
        self._forget()
        if drift is not None and drift.least > self._config.drift_level > 0.0:
            raise FailureDetectionError(
                f"the drift test of {len(drift.maxima)} successes never falls to "
                f"{self._config.drift_level}; valid: 0 for none, or {drift.least:.4f} and more"
            )

    def start(self, start: Start) -> None:
        """Begins an episode. What is latched stays."""
        self._start = start
        self._begin()
        self._retries = 0

    def reset(self) -> None:
        """Releases what is latched, as an operator may; the episode is judged anew from here."""
        self._latched = None
        if self._start is not None:
            self._begin()

    def went_back(self) -> None:
        """The robot has gone back as it was told to: the episode goes on, one retry fewer.

        What the band promises holds up to the first alarm of an episode, not for what follows.

        Raises:
            FailureDetectionError: If it was not told to.
        """
        if self._latched is None or self._latched[0] is not Decision.BACKTRACK:
            raise FailureDetectionError("nobody was told to go back")
        self._retries += 1
        self.reset()

    def rebind(self, running: Binding) -> None:
        """Takes note of what runs from now on, such as another policy."""
        self._running = running

    @property
    def calibration(self) -> Calibration | None:
        """In force; None = nothing can alarm."""
        return self._calibration

    @property
    def detector_id(self) -> str:
        """Hash of the detector."""
        return self._detector_id

    @property
    def latched(self) -> bool:
        """Whether a decision stands that only ``reset`` or ``went_back`` releases."""
        return self._latched is not None

    def judge(self, step: Step | None, age: float) -> Status:
        """The verdict on the next inference.

        Args:
            step: What was seen of it; None if nothing came.
            age: Of its observation now, s.
        """
        began = time.perf_counter()
        if self._latched is None:
            found = self._find(step, age)
            if found[0] not in (Decision.OK, Decision.WARN):
                self._latched = found
        else:
            found = self._latched
        return self._status(found, began)

    def abstain(self, reason: str) -> Status:
        """The verdict where there is nothing to judge, such as a lost inference: ABSTAIN, latched.

        Args:
            reason: Why; what is latched already stays.
        """
        began = time.perf_counter()
        self._latched = self._latched or (Decision.ABSTAIN, reason)
        return self._status(self._latched, began)

    def waiting(self, reason: str) -> Status:
        """The verdict while nobody is judged: OK, or what is latched.

        Args:
            reason: What is waited for.
        """
        return self._status(self._latched or (Decision.OK, reason), time.perf_counter())

    def _status(self, found: tuple[Decision, str], began: float) -> Status:
        band = self._band()
        drift_p = float("nan")
        if self._drift is not None and self._steps:
            drift_p = self._drift.p_value
        held = self._calibration
        return Status(
            decision=found[0],
            reason=found[1],
            step=self._steps,
            score=self._score,
            threshold=band.threshold(self._steps - 1) if band and self._steps else float("nan"),
            margin=self._margin,
            alpha=band.alpha if band else float("nan"),
            calibration_id=held.calibration_id if held else "",
            guarantee=band.guarantee if band else "none: uncalibrated, nothing can alarm",
            drift_p=drift_p,
            signals=self._detector.contributions() if self._steps else {},
            latency=time.perf_counter() - began,
        )

    def _begin(self) -> None:
        assert self._start is not None
        self._detector.start(self._start)
        if self._drift is not None:
            self._drift.start(self._start)
        self._forget()

    def _forget(self) -> None:
        self._steps, self._above, self._time = 0, 0, -np.inf
        self._score = self._margin = float("nan")

    def _find(self, step: Step | None, age: float) -> tuple[Decision, str]:
        why = self._unfit(step, age)
        if why:
            return Decision.ABSTAIN, why
        assert step is not None
        try:
            score = self._detector.step(step)
            drifted = self._drift is not None and (
                self._drift.update(step) <= self._config.drift_level
            )
        except (FailureDetectionError, ValueError) as error:  # shapes that do not fit
            return Decision.ABSTAIN, f"the inference cannot be scored: {error}"
        if not np.isfinite(score):
            return Decision.ABSTAIN, f"the score is {score}"
        self._steps += 1
        self._time = step.time
        self._score = score
        return self._decide(drifted)

    def _unfit(self, step: Step | None, age: float) -> str:
        """Why an inference cannot be judged; empty = it can."""
        if self._start is None:
            return "no episode was started"
        if self._running is None:
            return "it is not known what runs"
        if self._calibration is None:
            if not self._config.allow_uncalibrated:
                return "there is no calibration"
        else:
            wrong = self._calibration.mismatches(self._running, self._detector_id)
            if wrong:
                return f"not what was calibrated: {'; '.join(wrong)}"
        if step is None:
            return "no features came"
        if not 0.0 <= age <= self._config.max_age:
            return f"the observation is {age:.3f} s old; valid: 0 to {self._config.max_age} s"
        if not step.time > self._time:
            return f"the observation at {step.time:.3f} s is not after the one before"
        for name in ("features", "chunk", "state", "samples"):
            array = getattr(step, name)
            if array is not None and not np.all(np.isfinite(array)):
                return f"{name} is not finite"
        if step.features.shape[-1] != self._running.feature_shape[2]:
            return (
                f"features are {step.features.shape}; the policy's are "
                f"{self._running.feature_shape[2]} wide"
            )
        return ""

    def _decide(self, drifted: bool) -> tuple[Decision, str]:
        band = self._band()
        if band is None:
            return Decision.OK, "uncalibrated, as allowed: nothing can alarm"
        excess = float(band.shape.excesses(np.array([self._score]), self._steps - 1)[0])
        self._margin = band.quantile - excess
        self._above = self._above + 1 if excess > band.quantile else 0
        if self._above >= self._config.persistence:
            return self._reaction(), f"the score is above the band for {self._above} inferences"
        if drifted:
            return Decision.ABSTAIN, "the features are unlike all of the calibration's"
        if self._margin < self._config.warning:
            return Decision.WARN, f"the score is within {self._margin:.2f} widths of the band"
        return Decision.OK, ""

    def _reaction(self) -> Decision:
        if self._config.reaction is Decision.BACKTRACK and self._retries >= self._config.retries:
            return Decision.ASK_HELP
        return self._config.reaction

    def _band(self) -> Band | None:
        if self._calibration is None:
            return None
        return self._calibration.bands.of(self._start.task if self._start else "")
