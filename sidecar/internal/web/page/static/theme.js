// Before the first paint: a theme that was chosen by hand. (A classic script, for
// modules run later.)
try {
  const theme = localStorage.getItem('theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch { /* no storage: the system's theme */ }
