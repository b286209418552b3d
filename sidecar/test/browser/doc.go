// Package browser looks at the page in a real Chromium: with made-up contents for
// what is seen, and with a real sidecar on a real Redis for what is done. Run it
// with make browser; with ARGS=-update it writes the pictures in docs/images anew.
package browser
