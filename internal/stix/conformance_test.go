//go:build conformance

package stix_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"minato.example/internal/stix"
	"minato.example/tlp"
)

// samples are the files below the conformance data's samples, read in place.
func samples(t *testing.T) map[string][]byte {
	t.Helper()
	root := os.Getenv("MINATO_DATA")
	require.NotEmpty(t, root, "set MINATO_DATA: make conformance DATA=...")
	all := map[string][]byte{}
	folder := os.DirFS(filepath.Join(root, "stix", "samples"))
	require.NoError(t, fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".secrets.json") {
			return err
		}
		all[name], err = fs.ReadFile(folder, name)
		return err
	}))
	require.Greater(t, len(all), 10)
	return all
}

// What names the victim does not go to peers. What stays stands in the free
// text of an indicator, which no rule of types and properties can judge: that is
// why a copy is searched for names before it is sent.
func TestAnIncidentReachesPeersWithoutItsVictim(t *testing.T) {
	bundle := samples(t)["port/incident-a.json"]
	secretsFile, err := os.ReadFile(filepath.Join(os.Getenv("MINATO_DATA"), "stix", "samples", "port", "incident-a.secrets.json"))
	require.NoError(t, err)
	var secrets struct {
		Gone []string `json:"must_not_survive_anonymization"`
		Stay []string `json:"must_survive_for_green_and_above"`
	}
	require.NoError(t, json.Unmarshal(secretsFile, &secrets))
	require.NotEmpty(t, secrets.Gone)
	require.NotEmpty(t, secrets.Stay)

	out, dropped, err := stix.Project(bundle, stix.Projection{Label: tlp.Amber})
	require.NoError(t, err)
	require.Positive(t, dropped)
	var parsed struct{ Objects []map[string]any }
	require.NoError(t, json.Unmarshal(out, &parsed))
	structured := ""
	for _, o := range parsed.Objects {
		delete(o, "description")
		b, err := json.Marshal(o)
		require.NoError(t, err)
		structured += string(b)
	}
	for _, secret := range secrets.Gone {
		require.NotContains(t, structured, secret)
	}
	for _, value := range secrets.Stay {
		require.Contains(t, string(out), value)
	}
	requireWhole(t, out)
}

func TestNoProjectionOfASampleDangles(t *testing.T) {
	for name, bundle := range samples(t) {
		if _, err := stix.Scan(bundle); err != nil {
			t.Logf("%s is no bundle: %v", name, err)
			continue
		}
		before := -1
		for _, p := range []stix.Projection{
			{Label: tlp.Red},
			{Label: tlp.Red, Vulnerabilities: true, FileNames: true},
			{Label: tlp.Red, Vulnerabilities: true, FileNames: true, Victim: true},
		} {
			out, dropped, err := stix.Project(bundle, p)
			require.NoError(t, err, name)
			summary, err := stix.Scan(bundle)
			require.NoError(t, err)
			left := summary.Objects - dropped
			require.GreaterOrEqual(t, left, before, "%s: what may hold more holds more", name)
			before = left
			t.Logf("%-45s %5d of %5d objects go, %v", name, left, summary.Objects, p)
			if left == 0 {
				require.Nil(t, out)
				continue
			}
			requireWhole(t, out)
			again, dropped, err := stix.Project(out, p)
			require.NoError(t, err)
			require.Zero(t, dropped)
			require.Equal(t, string(out), string(again), name)
		}
	}
}
