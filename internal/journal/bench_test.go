package journal

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// BenchmarkAppendDurable is what an acknowledged record costs, beside a bare
// publish of JetStream behind the same barrier. Records are 1 KiB.
func BenchmarkAppendDurable(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("journal/%d", n), func(b *testing.B) {
			j := roomy(b)
			data := random(1 << 10)
			inFlight(b, n, func(i int64) error {
				if _, err := j.Append(b.Context(), LiveReports, fmt.Sprintf("r-%d", i), data); err != nil {
					return err
				}
				return j.Durable(b.Context())
			})
		})
		b.Run(fmt.Sprintf("bare/%d", n), func(b *testing.B) {
			j := roomy(b)
			js, err := jetstream.New(j.writes)
			require.NoError(b, err)
			data := random(1 << 10)
			inFlight(b, n, func(i int64) error {
				if _, err := js.Publish(b.Context(), fmt.Sprintf("live.report.r-%d", i), data); err != nil {
					return err
				}
				return j.Durable(b.Context())
			})
		})
	}
}

// BenchmarkRead is one reader over 1 KiB records.
func BenchmarkRead(b *testing.B) {
	j := roomy(b)
	data := random(1 << 10)
	const n = 20000
	var next atomic.Int64
	inFlightN(b, 64, n, func() error {
		_, err := j.Append(b.Context(), LiveReports, fmt.Sprintf("r-%d", next.Add(1)), data)
		return err
	})
	b.ResetTimer()
	var read uint64
	for read < uint64(b.N) {
		require.NoError(b, j.ReadTo(b.Context(), LiveReports, 0, min(n, uint64(b.N)-read), func(Record) error {
			read++
			return nil
		}))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkAppendToRead is the way from an append to a waiting reader.
func BenchmarkAppendToRead(b *testing.B) {
	j := roomy(b)
	seen := make(chan uint64)
	go j.Read(b.Context(), LiveReports, 0, func(r Record) error { seen <- r.Seq; return nil })
	i := 0
	for b.Loop() {
		i++
		if _, err := j.Append(b.Context(), LiveReports, fmt.Sprintf("r-%d", i), nil); err != nil {
			b.Fatal(err)
		}
		<-seen
	}
}

func roomy(b *testing.B) *Journal {
	cfg := testConfig(b.TempDir())
	cfg.MaxBytes = 20 << 30
	require.NoError(b, Create(b.Context(), cfg, []byte("founded")))
	return opened(b, cfg)
}

// inFlight runs fn b.N times, n at a time, and reports the rate and the
// latencies.
func inFlight(b *testing.B, n int, fn func(i int64) error) {
	b.Helper()
	var next atomic.Int64
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	inFlightN(b, n, b.N, func() error {
		i := next.Add(1)
		begun := time.Now()
		err := fn(i)
		took[i-1] = time.Since(begun)
		return err
	})
	b.StopTimer()
	report(b, took)
}

func inFlightN(b *testing.B, n, total int, fn func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(total))
	var g errgroup.Group
	for range n {
		g.Go(func() error {
			for left.Add(-1) >= 0 {
				if err := fn(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, g.Wait())
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
