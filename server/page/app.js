"use strict";

const url = "/events?topic=demo";
const events = document.getElementById("events");

new EventSource(url).addEventListener("message", (event) => {
  const item = document.createElement("li");
  item.textContent = `${event.lastEventId} ${event.data}`;
  events.prepend(item);
});

document.getElementById("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  fetch(url, { method: "POST", body: document.getElementById("data").value });
});
