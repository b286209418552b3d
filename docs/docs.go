// Package docs embeds the documents that the program itself shows.
package docs

import _ "embed"

// Operations is the document that explains alerts, log messages and errors, as
// Markdown.
//
//go:embed operations.md
var Operations string
