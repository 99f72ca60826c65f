package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// BenchmarkSubmit measures durable submits over mTLS beside the engines
// beneath, in the same run on the same disk: the bare journal with the same
// durability, a bare JetStream publish without any, and a bare gRPC call. The
// ratios are what to trust; the machine is noisy.
func BenchmarkSubmit(b *testing.B) {
	h := newHub(b, nil)
	from := h.join("terminal-a", pb.Role_ROLE_OPERATOR)
	h.join("port-authority", pb.Role_ROLE_PORT_AUTHORITY)
	size := proto.Size(firstReport("port-authority"))
	record := make([]byte, size)
	for _, inFlight := range []int{1, 16, 256} {
		rates := map[string]float64{}
		measure := func(name string, op func(worker int) error) {
			b.Run(fmt.Sprintf("%s/in-flight=%d", name, inFlight), func(b *testing.B) {
				took := atOnce(b, inFlight, b.N, op)
				rates[name] = float64(b.N) / b.Elapsed().Seconds()
				report(b, took)
				for _, bare := range []string{"bare-journal", "bare-jetstream", "bare-grpc"} {
					if name == "submit" && rates[bare] > 0 {
						b.ReportMetric(rates["submit"]/rates[bare], "of-"+bare)
					}
				}
			})
		}
		measure("bare-jetstream", func(int) error {
			_, err := h.journal.Append(context.Background(), journal.ExerciseReceipts, "x."+newID(), record)
			return err
		})
		measure("bare-journal", func(int) error {
			if _, err := h.journal.Append(context.Background(), journal.ExerciseReceipts, "x."+newID(), record); err != nil {
				return err
			}
			return h.journal.Durable(context.Background())
		})
		measure("bare-grpc", func(int) error {
			// The smallest call behind the same door: identity, admission, echo.
			_, err := from.hub.ListReceipts(context.Background(), &pb.ListReceiptsRequest{Lane: pb.Lane_LANE_LIVE, ReportId: newID()})
			if _, refused := rpc.RefusalOf(err); refused {
				return nil
			}
			return err
		})
		measure("submit", func(int) error {
			_, err := from.submit(firstReport("port-authority"), newID())
			return err
		})
	}
}

// BenchmarkFanout measures from submit to the moment when every recipient's
// receipt is back at the hub, beside one plain NATS message to as many
// subscribers over the same TLS.
func BenchmarkFanout(b *testing.B) {
	for _, recipients := range []int{10, 100} {
		b.Run(fmt.Sprintf("nodes=%d", recipients), func(b *testing.B) {
			h := newHub(b, nil)
			from := h.join("source", pb.Role_ROLE_OPERATOR)
			var stored atomic.Int64
			arrived := make(chan struct{}, 1)
			for i := range recipients {
				m := h.join(fmt.Sprintf("node-%d", i), pb.Role_ROLE_OPERATOR)
				m.receiveNATS(b, func() {
					stored.Add(1)
					select {
					case arrived <- struct{}{}:
					default:
					}
				})
			}
			var took []time.Duration
			b.ResetTimer()
			for range b.N {
				r := firstReport()
				r.Tlp, r.CommunityId = pb.TlpLabel_TLP_LABEL_GREEN, "testport"
				want := stored.Load() + int64(recipients)
				begin := time.Now()
				_, err := from.submit(r, newID())
				require.NoError(b, err)
				for stored.Load() < want {
					<-arrived
				}
				took = append(took, time.Since(begin))
			}
			b.StopTimer()
			report(b, took)
		})
	}
}

// receiveNATS opens a session as a node does and confirms what comes.
func (m *testMember) receiveNATS(b *testing.B, each func()) {
	b.Helper()
	conn, err := nats.Connect("tls://"+m.nats, nats.Secure(rpc.ClientTLS(m.root, m.certificate)), nats.TLSHandshakeFirst(),
		nats.CustomInboxPrefix("_INBOX."+m.id.member), nats.Timeout(10*time.Second))
	require.NoError(b, err)
	b.Cleanup(conn.Close)
	id := newID()
	keys := make(chan []byte, 1)
	var key []byte
	_, err = conn.Subscribe("d."+m.id.member+"."+id, func(msg *nats.Msg) {
		if key == nil {
			key = <-keys
		}
		sealed, said := new(pb.SealedMessage), new(pb.SessionMessage)
		if proto.Unmarshal(msg.Data, sealed) != nil {
			return
		}
		plain, err := seal.OpenMessage(key, id, seal.ToNode, sealed.GetCiphertext())
		if err != nil || proto.Unmarshal(plain, said) != nil || said.GetDelivery() == nil {
			return
		}
		receipt, err := proto.Marshal(m.receipt(said.GetDelivery(), pb.ReceiptState_RECEIPT_STATE_STORED))
		if err != nil {
			return
		}
		back, err := seal.SealMessage(key, id, seal.ToHub, receipt)
		if err != nil {
			return
		}
		data, err := proto.Marshal(&pb.SealedMessage{SessionId: id, Ciphertext: back})
		if err != nil {
			return
		}
		_ = conn.Publish("hub."+m.id.member+".receipt."+id, data)
		each()
	})
	require.NoError(b, err)
	require.NoError(b, conn.Flush())
	resp, err := m.hub.OpenSession(context.Background(), &pb.OpenSessionRequest{Lane: pb.Lane_LANE_LIVE, SessionId: id})
	require.NoError(b, err)
	keys <- resp.GetKey()
}

// atOnce runs n operations, so many at a time, and returns how long each took.
func atOnce(b *testing.B, inFlight, n int, op func(worker int) error) []time.Duration {
	b.Helper()
	took := make([]time.Duration, n)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	b.ResetTimer()
	for worker := range inFlight {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() != nil {
					return
				}
				begin := time.Now()
				if err := op(worker); err != nil {
					failed.Store(&err)
				}
				took[i] = time.Since(begin)
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	return took
}

// report adds rate and percentiles, in milliseconds.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(p float64) float64 {
		return float64(took[min(len(took)-1, int(p*float64(len(took))))].Microseconds()) / 1000
	}
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(at(0.50), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}
