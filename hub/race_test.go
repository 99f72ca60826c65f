//go:build race

package hub

// The race detector makes everything about ten times slower, and what is
// decided by pure functions in one goroutine has no races: it sees every
// sixteenth world of the domain and a sixteenth of the random decisions.
const everyNthWorld = 16
