package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// damagedCopy copies a closed journal and lets fn change one file of the copy.
func damagedCopy(t testing.TB, cfg Config, file string, fn func([]byte) []byte) Config {
	t.Helper()
	to := cfg
	to.Dir = filepath.Join(t.TempDir(), "journal")
	require.NoError(t, os.CopyFS(to.Dir, os.DirFS(cfg.Dir)))
	path := filepath.Join(to.Dir, file)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	if b = fn(b); b == nil {
		require.NoError(t, os.Remove(path))
		return to
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return to
}

// The largest blocks of the server hold some MiB; these records fill two.
const (
	damageRecords = 200
	damageBytes   = 64 << 10
)

func damageData(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x'}, damageBytes/3) }

func blockFiles(t testing.TB, cfg Config, s Stream) (blocks []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(cfg.Dir, storeDir, "jetstream", hubAccount, "streams", string(s), "msgs", "*.blk"))
	require.NoError(t, err)
	for _, n := range names {
		rel, err := filepath.Rel(cfg.Dir, n)
		require.NoError(t, err)
		blocks = append(blocks, rel)
	}
	return blocks
}

// readBack reads all that was appended in every way there is. It demands that
// each gives the whole truth or ErrDamaged, and says whether one found damage.
func readBack(t testing.TB, cfg Config, what string) (found bool) {
	t.Helper()
	j, err := Open(t.Context(), cfg)
	if err != nil {
		speaksBoth(t, err, ErrDamaged)
		return true
	}
	defer j.Close()
	honest := func(err error) bool {
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged, what)
			found = true
		}
		return err == nil
	}
	check := func(r Record, i int) {
		require.Equal(t, uint64(i+1), r.Seq, what)
		require.True(t, bytes.Equal(damageData(i), r.Data), "%s: record %d is not what was appended", what, i+1)
	}
	to, err := j.Position(t.Context(), LiveReports)
	require.NoError(t, err)
	require.Equal(t, uint64(damageRecords), to, what)

	n := 0
	if honest(j.ReadTo(t.Context(), LiveReports, 0, to, func(r Record) error { check(r, n); n++; return nil })) {
		require.Equal(t, damageRecords, n, what)
	}
	n = 0
	if honest(j.Match(t.Context(), LiveReports, "d.*", func(r Record) error { n++; check(r, int(r.Seq-1)); return nil })) {
		require.Equal(t, damageRecords, n, what)
	}
	for i := 0; i < damageRecords; i += 39 {
		if r, err := j.Get(t.Context(), LiveReports, uint64(i+1)); honest(err) {
			check(r, i)
		}
		if r, err := j.Last(t.Context(), LiveReports, fmt.Sprintf("d.%d", i)); honest(err) {
			check(r, i)
		}
	}
	// A key whose record is lost is not free again.
	for i := 0; i < damageRecords; i += 39 {
		_, err := j.Append(t.Context(), LiveReports, fmt.Sprintf("d.%d", i), nil)
		require.Error(t, err, what)
	}
	require.Equal(t, found, j.Healthy() != nil, what)
	return found
}

func TestAChangedBlockIsNeverServedAndNeverLooksEmpty(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	for i := range damageRecords {
		_, err := j.Append(t.Context(), LiveReports, fmt.Sprintf("d.%d", i), damageData(i))
		require.NoError(t, err)
	}
	require.NoError(t, j.Close())
	require.False(t, readBack(t, cfg, "as it was written"))

	blocks := blockFiles(t, cfg, LiveReports)
	require.Greater(t, len(blocks), 1)
	for _, block := range blocks {
		for name, fn := range map[string]func([]byte) []byte{
			"a bit at the start":        func(b []byte) []byte { b[3] ^= 1; return b },
			"a bit in the middle":       func(b []byte) []byte { b[len(b)/2] ^= 16; return b },
			"a hole of zeros":           func(b []byte) []byte { clear(b[len(b)/3 : len(b)/3+512]); return b },
			"half of it":                func(b []byte) []byte { return b[:len(b)/2] },
			"nothing but an empty file": func(b []byte) []byte { return b[:0] },
		} {
			what := filepath.Base(block) + ": " + name
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				require.True(t, readBack(t, damagedCopy(t, cfg, block, fn), what), what)
			})
		}
	}

	// Without its index the server finds the records again by itself.
	index := filepath.Join(filepath.Dir(blocks[0]), "index.db")
	require.False(t, readBack(t, damagedCopy(t, cfg, index, func([]byte) []byte { return nil }), "no index"))
	require.False(t, readBack(t, damagedCopy(t, cfg, index, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "changed index"))
}
