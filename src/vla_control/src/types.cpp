// SPDX-License-Identifier: Apache-2.0
#include "vla_control/types.hpp"

namespace vla_control {

std::string_view to_string(RejectReason reason) noexcept {
  switch (reason) {
    case RejectReason::kNone:
      return "NONE";
    case RejectReason::kNotActive:
      return "NOT_ACTIVE";
    case RejectReason::kEmpty:
      return "EMPTY";
    case RejectReason::kTooLong:
      return "TOO_LONG";
    case RejectReason::kBadShape:
      return "BAD_SHAPE";
    case RejectReason::kNotFinite:
      return "NOT_FINITE";
    case RejectReason::kBadQuaternion:
      return "BAD_QUATERNION";
    case RejectReason::kBadStep:
      return "BAD_STEP";
    case RejectReason::kWrongFrame:
      return "WRONG_FRAME";
    case RejectReason::kStale:
      return "STALE";
    case RejectReason::kFuture:
      return "FUTURE";
    case RejectReason::kOldGrant:
      return "OLD_GRANT";
    case RejectReason::kOldSequence:
      return "OLD_SEQUENCE";
    case RejectReason::kUnsupportedMode:
      return "UNSUPPORTED_MODE";
    case RejectReason::kOutOfWorkspace:
      return "OUT_OF_WORKSPACE";
    case RejectReason::kTooFast:
      return "TOO_FAST";
    case RejectReason::kFault:
      return "FAULT";
    case RejectReason::kBusy:
      return "BUSY";
    case RejectReason::kUnreachable:
      return "UNREACHABLE";
    case RejectReason::kUnmonitored:
      return "UNMONITORED";
    case RejectReason::kBadStiffness:
      return "BAD_STIFFNESS";
  }
  return "UNKNOWN";
}

std::string_view to_string(Phase phase) noexcept {
  switch (phase) {
    case Phase::kInactive:
      return "INACTIVE";
    case Phase::kHolding:
      return "HOLDING";
    case Phase::kTracking:
      return "TRACKING";
    case Phase::kBraking:
      return "BRAKING";
    case Phase::kFault:
      return "FAULT";
  }
  return "UNKNOWN";
}

std::string_view to_string(Fault fault) noexcept {
  switch (fault) {
    case Fault::kNone:
      return "NONE";
    case Fault::kStopRequested:
      return "STOP_REQUESTED";
    case Fault::kHeartbeatLost:
      return "HEARTBEAT_LOST";
    case Fault::kChunkTimeout:
      return "CHUNK_TIMEOUT";
    case Fault::kBadJointState:
      return "BAD_JOINT_STATE";
    case Fault::kClockJump:
      return "CLOCK_JUMP";
    case Fault::kNumeric:
      return "NUMERIC";
    case Fault::kTrackingDeviation:
      return "TRACKING_DEVIATION";
    case Fault::kForceSensor:
      return "FORCE_SENSOR";
    case Fault::kContactForce:
      return "CONTACT_FORCE";
  }
  return "UNKNOWN";
}

std::string_view to_string(EffortState state) noexcept {
  switch (state) {
    case EffortState::kTotal:
      return "TOTAL";
    case EffortState::kGravityFree:
      return "GRAVITY_FREE";
    case EffortState::kCurrent:
      return "CURRENT";
    case EffortState::kNone:
      return "NONE";
  }
  return "UNKNOWN";
}

std::string_view to_string(ActivationRefusal refusal) noexcept {
  switch (refusal) {
    case ActivationRefusal::kNone:
      return "NONE";
    case ActivationRefusal::kBadJointState:
      return "BAD_JOINT_STATE";
    case ActivationRefusal::kEffortMissing:
      return "EFFORT_MISSING";
    case ActivationRefusal::kStaticResidual:
      return "STATIC_RESIDUAL";
    case ActivationRefusal::kOutsideLimits:
      return "OUTSIDE_LIMITS";
    case ActivationRefusal::kMoving:
      return "MOVING";
    case ActivationRefusal::kForceSensorMissing:
      return "FORCE_SENSOR_MISSING";
  }
  return "UNKNOWN";
}

}  // namespace vla_control
