// SPDX-License-Identifier: Apache-2.0
/** What the operator's hands ask for: keyboard, pads and gamepad, and whether they hold the arm. */

export interface Motion {
  twist: number[]; // six shares of the full speed, -1 to 1
  opening: number | null; // share of the full opening
}

const KEYS: Record<string, [number, number]> = {
  KeyW: [0, 1], KeyS: [0, -1], KeyA: [1, 1], KeyD: [1, -1],
  KeyR: [2, 1], KeyF: [2, -1], KeyQ: [5, 1], KeyE: [5, -1],
};
const DEAD_MAN_BUTTON = 5; // right shoulder, in the standard layout
const CLOSE_BUTTON = 0;
const OPEN_BUTTON = 1;
const DEAD_ZONE = 0.12;

function writes(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement && (target.type === "text" || target.type === "number");
}

export class Hand {
  onChange: () => void = () => {}; // a key or a finger goes down or up
  private keys = new Set<string>();
  private pointers = new Map<HTMLElement, number>();
  private pads = new Map<HTMLElement, [number, number]>();
  private opening: number | null = null;

  constructor(
    private plane: HTMLElement,
    private height: HTMLElement,
    private button: HTMLElement,
  ) {
    addEventListener("keydown", (event) => {
      if (writes(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.code === "Space" || event.code in KEYS) event.preventDefault();
      if (event.code === "Space" && event.target instanceof HTMLElement) event.target.blur();
      if (event.code === "KeyO") this.grip(1);
      if (event.code === "KeyC") this.grip(0);
      this.keys.add(event.code);
      if (!event.repeat) this.onChange();
    });
    addEventListener("keyup", (event) => {
      if (this.keys.delete(event.code)) this.onChange();
    });
    for (const pad of [plane, height]) {
      this.watch(pad, (event) => {
        const box = pad.getBoundingClientRect();
        const across = (2 * (event.clientX - box.left)) / box.width - 1;
        const up = 1 - (2 * (event.clientY - box.top)) / box.height;
        this.pads.set(pad, [clamped(across), clamped(up)]);
      });
    }
    this.watch(button, () => {});
  }

  /** Opens (1) or closes (0) the gripper, while the arm is held. */
  grip(opening: number): void {
    this.opening = opening;
  }

  /** Nothing is held any more, whatever the hands do. */
  drop(): void {
    this.keys.clear();
    this.pointers.clear();
    this.pads.clear();
    this.opening = null;
  }

  /** What is asked for; null = nobody holds the arm. */
  asks(): Motion | null {
    const twist = [0, 0, 0, 0, 0, 0];
    let holds = this.keys.has("Space") || this.pointers.size > 0;
    for (const code of this.keys) {
      const key = KEYS[code];
      if (key) twist[key[0]] = (twist[key[0]] ?? 0) + key[1];
    }
    const [left, forward] = this.pads.get(this.plane) ?? [0, 0];
    const [turn, up] = this.pads.get(this.height) ?? [0, 0];
    add(twist, [forward, -left, up, 0, 0, -turn]);
    for (const pad of navigator.getGamepads?.() ?? []) {
      if (!pad?.buttons[DEAD_MAN_BUTTON]?.pressed) continue;
      holds = true;
      const axis = (i: number) => {
        const value = pad.axes[i] ?? 0;
        return Math.abs(value) > DEAD_ZONE ? value : 0;
      };
      add(twist, [-axis(1), -axis(0), -axis(3), 0, 0, -axis(2)]);
      if (pad.buttons[OPEN_BUTTON]?.pressed) this.opening = 1;
      if (pad.buttons[CLOSE_BUTTON]?.pressed) this.opening = 0;
    }
    if (!holds) {
      this.opening = null;
      return null;
    }
    return { twist: twist.map(clamped), opening: this.opening };
  }

  /** Shows where the pads stand. */
  draw(holds: boolean): void {
    for (const pad of [this.plane, this.height]) {
      const [across, up] = this.pads.get(pad) ?? [0, 0];
      const dot = pad.querySelector("i");
      if (dot) dot.style.transform = `translate(${across * 60}px, ${-up * 60}px)`;
    }
    this.button.classList.toggle("holding", holds);
  }

  private watch(element: HTMLElement, moved: (event: PointerEvent) => void): void {
    element.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      element.setPointerCapture(event.pointerId);
      this.pointers.set(element, event.pointerId);
      moved(event);
      this.onChange();
    });
    element.addEventListener("pointermove", (event) => {
      if (this.pointers.get(element) === event.pointerId) moved(event);
    });
    const end = (event: PointerEvent) => {
      if (this.pointers.get(element) !== event.pointerId) return;
      this.pointers.delete(element);
      this.pads.delete(element);
      this.onChange();
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
    element.addEventListener("contextmenu", (event) => event.preventDefault());
  }
}

function clamped(value: number): number {
  return Math.max(-1, Math.min(1, value));
}

function add(to: number[], what: number[]): void {
  what.forEach((value, i) => (to[i] = (to[i] ?? 0) + value));
}
