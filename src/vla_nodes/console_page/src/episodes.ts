// SPDX-License-Identifier: Apache-2.0
/** The recorded episodes, and a player: each camera shows, in true time, what it saw. */

interface Episode {
  number: number;
  name: string;
  ended: number; // s since the epoch
  instruction: string;
  outcome: string;
  seconds: number;
}

interface Camera {
  name: string;
  times: number[]; // s
}

/** Shows the pictures of one camera, one at a time: a slow link leaves some out. */
class Screen {
  readonly figure = document.createElement("figure");
  private image = document.createElement("img");
  private wanted = -1;
  private shown = -1;
  private loading = false;

  constructor(
    private camera: Camera,
    private folder: string,
    private onError: (text: string) => void,
  ) {
    const caption = document.createElement("figcaption");
    caption.textContent = camera.name;
    this.image.alt = `what the camera ${camera.name} saw`;
    this.figure.append(this.image, caption);
  }

  /** Shows what the camera saw last at a time, s. */
  seek(time: number): void {
    const { times } = this.camera;
    let [low, high] = [0, times.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (times[middle]! <= time) low = middle;
      else high = middle - 1;
    }
    this.wanted = high < 0 ? -1 : low;
    if (!this.loading) void this.follow();
  }

  private async follow(): Promise<void> {
    this.loading = true;
    while (this.shown !== this.wanted) {
      this.shown = this.wanted;
      await this.load(this.shown);
    }
    this.loading = false;
  }

  private async load(frame: number): Promise<void> {
    const answer = await fetch(`${this.folder}/${frame}`);
    if (!answer.ok) return this.onError(((await answer.json()) as { error: string }).error);
    const address = URL.createObjectURL(await answer.blob());
    this.image.src = address;
    await this.image.decode().catch(() => {});
    URL.revokeObjectURL(address);
    this.figure.dataset.frame = String(frame);
  }
}

function at<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

export class Recorded {
  private screens: Screen[] = [];
  private playing = false;
  private time = 0; // s
  private length = 0; // s
  private drawn = 0; // ms
  private opened = 0; // number of the episode
  private listed = "";

  constructor(private onError: (text: string) => void) {
    at("play").addEventListener("click", () => this.run(!this.playing));
    at("shut").addEventListener("click", () => this.shut());
    at("scrub").addEventListener("input", () => {
      this.run(false);
      this.time = Number(at<HTMLInputElement>("scrub").value);
      this.draw();
    });
  }

  /** Lists what there is; nothing is shown where nothing is recorded. */
  async refresh(): Promise<void> {
    const answer = await fetch("episodes").catch(() => null);
    if (!answer) return; // the connection is lost; another will ask
    const told = answer.ok ? await answer.text() : "[]";
    if (told === this.listed) return; // what has the focus keeps it
    this.listed = told;
    const episodes = JSON.parse(told) as Episode[];
    at("recorded").hidden = episodes.length === 0;
    at("episodes").replaceChildren(...episodes.map((one) => this.row(one)));
  }

  private row(episode: Episode): HTMLElement {
    const line = document.createElement("li");
    const button = document.createElement("button");
    const ended = new Date(1000 * episode.ended).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    const texts = [ended, episode.instruction || episode.name, episode.outcome, `${episode.seconds.toFixed(1)} s`];
    for (const text of texts) {
      const part = document.createElement("span");
      part.textContent = text;
      button.append(part);
    }
    button.type = "button";
    button.title = `play ${episode.name}`;
    button.dataset.number = String(episode.number);
    button.classList.add(episode.outcome);
    button.classList.toggle("opened", episode.number === this.opened);
    button.addEventListener("click", () => void this.play(episode.number));
    line.append(button);
    return line;
  }

  private async play(number: number): Promise<void> {
    const answer = await fetch(`episodes/${number}`);
    const told = (await answer.json()) as { cameras: Camera[]; error?: string };
    if (!answer.ok) return this.onError(told.error ?? "");
    this.shut();
    this.opened = number;
    const fail = (text: string) => {
      this.run(false);
      this.onError(text);
    };
    this.screens = told.cameras.map((camera, i) => new Screen(camera, `episodes/${number}/${i}`, fail));
    this.length = Math.max(0, ...told.cameras.map((camera) => camera.times.at(-1) ?? 0));
    at("film").replaceChildren(...this.screens.map((one) => one.figure));
    at<HTMLInputElement>("scrub").max = String(this.length);
    at("player").hidden = false;
    this.mark();
    if (this.screens.length === 0) this.onError("the episode has no pictures");
    this.run(true);
  }

  private run(playing: boolean): void {
    if (playing && this.time >= this.length) this.time = 0;
    if (playing && !this.playing) requestAnimationFrame((now) => this.begin(now));
    this.playing = playing;
    at("play").textContent = playing ? "Pause" : "Play";
  }

  private begin(now: number): void {
    this.drawn = now;
    this.step(now);
  }

  private step(now: number): void {
    if (!this.playing) return;
    this.time = Math.min(this.length, this.time + (now - this.drawn) / 1000);
    this.drawn = now;
    this.draw();
    if (this.time >= this.length) this.run(false);
    else requestAnimationFrame((next) => this.step(next));
  }

  private draw(): void {
    for (const one of this.screens) one.seek(this.time);
    at<HTMLInputElement>("scrub").value = String(this.time);
    at("clock").textContent = `${this.time.toFixed(1)} / ${this.length.toFixed(1)} s`;
  }

  private shut(): void {
    this.run(false);
    [this.screens, this.time, this.opened] = [[], 0, 0];
    at("player").hidden = true;
    at("film").replaceChildren();
    this.mark();
  }

  private mark(): void {
    for (const one of document.querySelectorAll<HTMLElement>("#episodes button"))
      one.classList.toggle("opened", one.dataset.number === String(this.opened));
  }
}
