// SPDX-License-Identifier: Apache-2.0
import type { Help } from "./protocol";

/** Shows what an arm that holds asks the operator; the answers are buttons of the page. */
export class Question {
  private shown = "";

  constructor(private card: HTMLElement) {}

  show(asked: Help | undefined, grant: number): void {
    this.card.hidden = !asked;
    if (!asked) return;
    const key = JSON.stringify([asked, grant]);
    if (key === this.shown) return;
    this.shown = key;
    this.card.querySelector("#question")!.textContent = asked.reason;
    this.card.querySelector("#told")!.textContent = asked.instruction || "nothing";
    this.card.querySelector("#help-pictures")!.replaceChildren(
      ...asked.cameras.map((camera, i) => {
        const figure = document.createElement("figure");
        const image = document.createElement("img");
        const caption = document.createElement("figcaption");
        image.src = `help/${i}?${grant}`; // another question has other pictures
        image.alt = `what the camera ${camera} saw when it stopped`;
        caption.textContent = camera;
        figure.append(image, caption);
        return figure;
      }),
    );
  }
}
