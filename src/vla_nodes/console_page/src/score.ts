// SPDX-License-Identifier: Apache-2.0
import type { Failure } from "./protocol";

const KEPT = 300;

/** The failure score against its threshold, over the inferences of an episode. */
export class Score {
  private points: { step: number; score: number; threshold: number }[] = [];

  constructor(private canvas: HTMLCanvasElement) {}

  /** Takes a status. Returns whether it is of a new inference. */
  add(told: Failure): boolean {
    if (told.score === null || told.threshold === null) return false;
    const last = this.points.at(-1);
    if (last && told.step < last.step) this.points = [];
    if (last && told.step === last.step) return false;
    this.points.push({ step: told.step, score: told.score, threshold: told.threshold });
    this.points = this.points.slice(-KEPT);
    return true;
  }

  draw(): void {
    const { canvas, points } = this;
    const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
    const height = (canvas.height = 90 * devicePixelRatio);
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.font = `${12 * devicePixelRatio}px system-ui`;
    pen.fillStyle = "#97a3b1";
    if (points.length < 2) {
      pen.fillText("no detector has scored an episode yet", 4, height / 2);
      return;
    }
    const values = points.flatMap((p) => [p.score, p.threshold]);
    const low = Math.min(...values);
    const span = Math.max(...values) - low || 1;
    const at = (i: number, value: number): [number, number] => [
      (i / (points.length - 1)) * width,
      height - 6 - ((value - low) / span) * (height - 12),
    ];
    const line = (colour: string, of: (p: (typeof points)[number]) => number) => {
      pen.strokeStyle = colour;
      pen.lineWidth = 2 * devicePixelRatio;
      pen.beginPath();
      points.forEach((p, i) => pen.lineTo(...at(i, of(p))));
      pen.stroke();
    };
    line("#e2483d", (p) => p.threshold);
    line("#4ea1ff", (p) => p.score);
    pen.fillText("score", 4, height - 6);
    pen.fillStyle = "#e2483d";
    pen.fillText("threshold", 50 * devicePixelRatio, height - 6);
  }
}
