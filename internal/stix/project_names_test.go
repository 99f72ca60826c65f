package stix_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"minato.example/internal/stix"
	"minato.example/tlp"
)

func TestTheNameOfASampleGoesOnlyWhereFileNamesMay(t *testing.T) {
	const times = `"spec_version":"2.1","created":"2026-11-01T00:00:00.000Z","modified":"2026-11-01T00:00:00.000Z"`
	bundle := []byte(`{"type":"bundle","id":"bundle--11111111-1111-4111-8111-111111111111","objects":[` +
		`{"type":"malware","id":"malware--22222222-2222-4222-8222-222222222222",` + times + `,"name":"family","is_family":false,"sample_refs":["file--33333333-3333-5333-8333-333333333333"]},` +
		`{"type":"file","spec_version":"2.1","id":"file--33333333-3333-5333-8333-333333333333","name":"北埠頭-山田.docx","hashes":{"SHA-256":"` + strings.Repeat("ab", 32) + `"}}]}`)
	for _, may := range []bool{false, true} {
		out, dropped, err := stix.Project(bundle, stix.Projection{Label: tlp.Amber, FileNames: may})
		require.NoError(t, err)
		require.Zero(t, dropped, "the sample goes by its hash")
		require.Contains(t, string(out), strings.Repeat("ab", 32))
		require.Equal(t, may, strings.Contains(string(out), "北埠頭-山田.docx"))
	}
}
