//go:build !race

package hub

// everyNthWorld thins out the domain of the oracle and the random decisions;
// see race_test.go.
const everyNthWorld = 1
