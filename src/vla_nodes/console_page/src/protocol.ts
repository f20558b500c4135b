// SPDX-License-Identifier: Apache-2.0
/** What the server says; vla_nodes/console/link.py makes it. */

export interface Owner {
  state: string;
  owner: string;
  reason: string;
  instruction: string;
  episode: string;
  task: string;
  grant: number;
  speed: number | null; // share of the policy's own
  silent: boolean;
}

export interface Arm {
  phase: string;
  fault: number;
  position: (number | null)[];
  angles: (number | null)[];
  speed: number | null;
  force: (number | null)[];
  torque: (number | null)[];
  contact: boolean;
  compliant: boolean;
  opening: number | null;
  chunk_age: number | null;
}

export interface Failure {
  verdict: string;
  score: number | null;
  threshold: number | null;
  step: number;
  reason: string;
  calibrated: boolean;
}

export interface Happening {
  number: number;
  time: number;
  kind: string;
  episode: string;
  text: string;
}

export interface Help {
  reason: string;
  instruction: string;
  cameras: string[];
}

export interface Robot {
  problem?: string;
  holds?: boolean;
  cameras?: string[];
  speed?: number;
  owner?: Owner;
  arm?: Arm;
  failure?: Failure;
  help?: Help;
}

export type Seat = "mine" | "taken" | "free";

export interface Snapshot {
  seat: Seat;
  robot: Robot;
}

export interface Picture {
  camera: string;
  taken: number; // ms since the epoch, by the server's clock
  jpeg: Blob;
}

/** Takes a binary message apart. */
export function picture(data: ArrayBuffer): Picture {
  const view = new DataView(data);
  const length = view.getUint8(0);
  const camera = new TextDecoder().decode(new Uint8Array(data, 9, length));
  return {
    camera,
    taken: view.getFloat64(1),
    jpeg: new Blob([new Uint8Array(data, 9 + length)], { type: "image/jpeg" }),
  };
}
