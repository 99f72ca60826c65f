package hub

import (
	"os"
	"testing"
)

// TestMain lets make mutants put a faulty policy in the place of the one that
// is built in, without building the tests anew for each row.
func TestMain(m *testing.M) {
	if path := os.Getenv("MINATO_FAULTY_POLICY"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		policyText = text
	}
	os.Exit(m.Run())
}
