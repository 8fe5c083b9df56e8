/** Runs before the page is painted: the theme that was chosen here, else the system's. */
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const chosen = localStorage.getItem("switchyard.theme");
  document.documentElement.dataset.theme = chosen ?? (systemDark.matches ? "dark" : "light");
}

applyTheme();
systemDark.addEventListener("change", () => {
  applyTheme();
  dispatchEvent(new Event("themechange"));
});
