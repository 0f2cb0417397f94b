/* Asks where the study stands, and loads its page again when that has changed. */
"use strict";

const SECONDS = 5;
const now = document.getElementById("now");
const shown = document.getElementById("page");
let mark = null;

async function ask() {
  try {
    const said = await (await fetch("now")).json();
    now.textContent = said.line;
    if (mark !== null && mark !== said.mark) shown.contentWindow.location.reload();
    mark = said.mark;
  } catch {
    now.textContent = "The server has stopped; this is the page as it was.";
    return;
  }
  setTimeout(ask, SECONDS * 1000);
}

document.getElementById("stop").addEventListener("click", () => fetch("stop", { method: "POST" }));
ask();
