// SPDX-License-Identifier: Apache-2.0
import { picture, type Happening, type Picture, type Snapshot } from "./protocol";

const RETRY = 1000; // ms

/** Exchanges the token in the address, once, for a cookie; then forgets it. */
export async function openSession(): Promise<string> {
  const token = location.hash.slice(1);
  if (token) history.replaceState(null, "", location.pathname);
  const answer = await fetch("session", { method: "POST", body: token });
  if (answer.ok) return "";
  return `${((await answer.json()) as { error: string }).error}: open the address that vla console prints`;
}

/** The WebSocket to the server, opened again when it is lost. */
export class Connection {
  open = false;
  roundTrip = NaN; // ms
  ahead = NaN; // ms that the server's clock is ahead of this one
  onSnapshot: (said: Snapshot) => void = () => {};
  onCourse: (said: number[][]) => void = () => {};
  onPicture: (said: Picture) => void = () => {};
  onEvent: (said: Happening) => void = () => {};
  onError: (text: string) => void = () => {};
  onDone: (command: string) => void = () => {};
  onChange: () => void = () => {};
  private socket: WebSocket | null = null;
  private quickest = Infinity; // ms

  connect(): void {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.open = true;
      this.ping(socket);
      this.onChange();
    };
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => this.hear(event.data);
    socket.onclose = (event) => {
      this.open = false;
      this.socket = null;
      this.onChange();
      if (event.code === 4401 || event.code === 4403) this.onError("no session: open the address that vla console prints");
      else setTimeout(() => this.connect(), RETRY);
    };
    this.socket = socket;
  }

  send(said: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(said));
  }

  private ping(socket: WebSocket): void {
    if (this.socket !== socket) return;
    this.send({ kind: "ping", time: performance.now() });
    setTimeout(() => this.ping(socket), 1000);
  }

  private hear(data: string | ArrayBuffer): void {
    if (typeof data !== "string") {
      this.onPicture(picture(data));
      return;
    }
    const said = JSON.parse(data) as Partial<Snapshot> & { course?: number[][]; event?: Happening; pong?: number; clock?: number; error?: string; done?: string };
    if (said.robot && said.seat) this.onSnapshot(said as Snapshot);
    else if (said.course) this.onCourse(said.course);
    else if (said.event) this.onEvent(said.event);
    else if (said.pong !== undefined) this.measure(said.pong, said.clock ?? NaN);
    else if (said.error) this.onError(said.error);
    else if (said.done) this.onDone(said.done);
  }

  /** The clocks are compared by the quickest answers. */
  private measure(sent: number, clock: number): void {
    this.roundTrip = performance.now() - sent;
    this.quickest = Math.min(this.roundTrip, this.quickest + 1);
    if (this.roundTrip === this.quickest) this.ahead = clock + this.roundTrip / 2 - Date.now();
  }
}
