// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
(() => {
  const table = document.getElementById("fleet"), body = table.tBodies[0], rows = [...body.rows];
  const words = document.getElementById("words"), state = document.getElementById("state"), count = document.getElementById("count");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const others = [...document.querySelectorAll("#matrix tbody tr")];
  document.getElementById("tools").hidden = false;

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean), shown = new Set();
    rows.forEach((row, number) => {
      row.hidden = (state.value && row.dataset.state !== state.value) || !wanted.every((word) => texts[number].includes(word));
      if (!row.hidden) shown.add(row.dataset.host);
    });
    others.forEach((row) => { row.hidden = !shown.has(row.dataset.host); });
    count.textContent = `${shown.size} of ${rows.length} clusters`;
  }

  // What is unknown has no value, and comes last either way.
  function value(row, column) {
    const cell = row.cells[column], given = cell.dataset.v;
    return given === "" ? null : given === undefined ? cell.textContent : Number(given);
  }

  function sort(column, down) {
    const keys = new Map(rows.map((row) => [row, value(row, column)])), way = down ? -1 : 1;
    const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    rows.slice().sort((a, b) => {
      const one = keys.get(a), other = keys.get(b);
      if (one === null || other === null) return (one === null) - (other === null);
      return way * compare(one, other);
    }).forEach((row) => body.append(row));
  }

  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down);
    });
  });
  words.addEventListener("input", filter);
  state.addEventListener("change", filter);
  filter();
})();
