package journal

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// The raw engine on the same machine in the same run, to judge
// BenchmarkAppendDurable by: without a sync, and with one sync for each record.

func BenchmarkBareAppend(b *testing.B) {
	bare(b, func(*Journal) error { return nil })
}

func BenchmarkBareAppendWithSync(b *testing.B) {
	bare(b, func(j *Journal) error {
		return syncPath(blockOf(j))
	})
}

func bare(b *testing.B, after func(*Journal) error) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			j := roomy(b)
			js, err := jetstream.New(j.writes)
			require.NoError(b, err)
			data := random(1 << 10)
			inFlight(b, n, func(i int64) error {
				m := &nats.Msg{Subject: fmt.Sprintf("live.report.r-%d", i), Data: data}
				if _, err := js.PublishMsg(b.Context(), m); err != nil {
					return err
				}
				return after(j)
			})
		})
	}
}

// blockOf is the first block of the reports, which is what a short run writes.
func blockOf(j *Journal) string {
	return j.dir + "/" + storeDir + "/jetstream/" + hubAccount + "/streams/" + string(LiveReports) + "/msgs/1.blk"
}
