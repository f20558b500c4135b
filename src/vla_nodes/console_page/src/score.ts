// SPDX-License-Identifier: Apache-2.0
import type { Failure } from "./protocol";

const KEPT = 300;
const HEIGHT = 120;

interface Point {
  step: number;
  score: number;
  threshold: number;
}

/** The failure score against its band, over the inferences of an episode. */
export class Score {
  private points: Point[] = [];

  constructor(private canvas: HTMLCanvasElement) {}

  /** Takes what was scored before this page was opened: step, score, threshold. */
  begin(course: number[][]): void {
    this.points = course.map(([step = 0, score = 0, threshold = 0]) => ({ step, score, threshold }));
    this.draw();
  }

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
    const scale = devicePixelRatio;
    const width = (canvas.width = canvas.clientWidth * scale);
    const height = (canvas.height = HEIGHT * scale);
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.font = `${12 * scale}px system-ui`;
    pen.fillStyle = "#97a3b1";
    const [first, last] = [points[0], points.at(-1)];
    if (!first || !last || first === last) {
      pen.fillText("no detector has scored an episode yet", 4 * scale, height / 2);
      return;
    }
    const top = 4 * scale;
    const bottom = height - 20 * scale;
    const low = Math.min(0, ...points.map((p) => p.score));
    const high = Math.max(...points.flatMap((p) => [p.score, p.threshold]));
    const x = (p: Point) => ((p.step - first.step) / (last.step - first.step)) * (width - 2 * scale);
    const y = (value: number) => bottom - ((value - low) / (high - low || 1)) * (bottom - top);
    const trace = (of: (p: Point) => number) => {
      pen.beginPath();
      for (const p of points) pen.lineTo(x(p), y(of(p)));
    };
    trace((p) => p.threshold);
    pen.lineTo(x(last), bottom);
    pen.lineTo(x(first), bottom);
    pen.fillStyle = "#39b36b22";
    pen.fill();
    pen.lineWidth = 1.5 * scale;
    pen.strokeStyle = "#39b36b";
    trace((p) => p.threshold);
    pen.stroke();
    pen.strokeStyle = last.score > last.threshold ? "#e2483d" : "#4ea1ff";
    pen.lineWidth = 2 * scale;
    trace((p) => p.score);
    pen.stroke();
    pen.fillStyle = "#97a3b1";
    const digits = (value: number) => value.toPrecision(3);
    pen.fillText(
      `score ${digits(last.score)}, band up to ${digits(last.threshold)}; inferences ${first.step} to ${last.step}`,
      4 * scale,
      height - 5 * scale,
    );
  }
}
