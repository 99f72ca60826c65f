package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryFaultStillFitsTheCode(t *testing.T) {
	root, err := moduleRoot()
	require.NoError(t, err)
	rules, seen := map[string]bool{}, map[string]bool{}
	for _, m := range mutants {
		_, err := m.seeded(root)
		assert.NoError(t, err, m.why) // all that have to be written anew at once
		require.NotEqual(t, m.old, m.new, m.why)
		require.False(t, seen[m.why], "%s stands twice", m.why)
		seen[m.why] = true
		if row := regexp.MustCompile(`^R[0-9]+\S*`).FindString(m.why); row != "" {
			rules[row] = true
		}
	}
	require.GreaterOrEqual(t, len(mutants), 30)
	policy, err := os.ReadFile(filepath.Join(root, "hub", "policy.toml"))
	require.NoError(t, err)
	ids := regexp.MustCompile(`(?m)^id = "(R[^"]+)"`).FindAllStringSubmatch(string(policy), -1)
	require.Greater(t, len(ids), 20)
	for _, id := range ids {
		require.True(t, rules[id[1]], "no fault in the data of row %s", id[1])
	}
}
