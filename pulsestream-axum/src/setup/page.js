"use strict";
const form = document.getElementById("form");
const answer = document.getElementById("answer");
const token = location.hash.slice(1);
// Not to be found in the history of the browser.
history.replaceState(null, "", location.pathname);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(form));
  const response = await fetch("api/v2/setup", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token, ...fields }),
  });
  const body = await response.json();
  if (response.ok) {
    form.remove();
    answer.textContent = `Tenant ${body.tenant_slug} (${body.tenant_id}) is there.\n\nAPI key, shown this once:\n${body.api_key}`;
  } else {
    const errors = (body.errors || []).map((error) => `${error.pointer}: ${error.detail}`);
    answer.textContent = [body.detail || body.title, ...errors].join("\n");
  }
});
