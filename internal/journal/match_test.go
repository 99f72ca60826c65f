package journal

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// receipts appends n receipts of reports, five a report, so that those of one
// report stand close together as they do in life.
func receipts(b *testing.B, j *Journal, n int) {
	var next atomic.Int64
	inFlightN(b, 64, n, func() error {
		i := next.Add(1) - 1
		_, err := j.Append(b.Context(), LiveReceipts, fmt.Sprintf("report-%d.member-%d.1", i/5, i%5), make([]byte, 300))
		return err
	})
}

func TestAKeyMatchesAFilterAsTheServerHasIt(t *testing.T) {
	for _, c := range []struct {
		filter, key string
		want        bool
	}{
		{">", "a", true}, {">", "a.b.c", true}, {"a.>", "a", false}, {"a.>", "a.b", true}, {"a.>", "a.b.c", true}, {"a.>", "ab.c", false},
		{"*", "a", true}, {"*", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "a.b.c", false},
		{"*.b.*", "a.b.c", true}, {"*.b.*", "a.c.c", false}, {"a.b", "a.b", true}, {"a.b", "a.bc", false}, {"*.*.>", "a.b", false}, {"*.*.>", "a.b.c", true},
	} {
		require.Equal(t, c.want, matches(strings.Split(c.filter, "."), c.key), "%s %s", c.filter, c.key)
		require.Equal(t, c.want, server.SubjectsCollide(c.filter, c.key), "%s %s", c.filter, c.key)
	}
}

// BenchmarkMatch finds the five receipts of one report among 100,000.
func BenchmarkMatch(b *testing.B) {
	j := roomy(b)
	const n = 100_000
	receipts(b, j, n)
	for name, report := range map[string]int{"first": 0, "middle": n / 10, "last": n/5 - 1, "none": n} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				found := 0
				require.NoError(b, j.Match(b.Context(), LiveReceipts, fmt.Sprintf("report-%d.>", report), func(Record) error { found++; return nil }))
				if report < n {
					require.Equal(b, 5, found)
				}
			}
		})
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			found := 0
			require.NoError(b, j.Match(b.Context(), LiveReceipts, ">", func(Record) error { found++; return nil }))
			require.Equal(b, n, found)
		}
	})
}
