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
  onSnapshot: (said: Snapshot) => void = () => {};
  onPicture: (said: Picture) => void = () => {};
  onEvent: (said: Happening) => void = () => {};
  onError: (text: string) => void = () => {};
  onDone: (command: string) => void = () => {};
  onChange: () => void = () => {};
  private socket: WebSocket | null = null;

  connect(): void {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.open = true;
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
    setTimeout(() => this.ping(socket), 500);
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
    const said = JSON.parse(data) as Partial<Snapshot> & { event?: Happening; pong?: number; error?: string; done?: string };
    if (said.robot && said.seat) this.onSnapshot(said as Snapshot);
    else if (said.event) this.onEvent(said.event);
    else if (said.pong !== undefined) this.roundTrip = performance.now() - said.pong;
    else if (said.error) this.onError(said.error);
    else if (said.done) this.onDone(said.done);
  }
}
