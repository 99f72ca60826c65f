package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	pb "minato.example/proto/minato/v1"
)

// samplePortReport makes reports as they are at a port: a title, some sentences, one
// indicator.
func samplePortReport(b testing.TB, random *rand.Rand, sequence int) (*pb.Delivery, *pb.Report) {
	words := []string{"港湾", "ターミナル", "不審な通信", "障害", "停止", "ゲート", "荷役", "確認", "VPN", "装置", "更新", "認証", "サーバー", "名古屋", "端末", "暗号化", "メール", "調査中", "復旧", "TOS"}
	text := func(n int) (s string) {
		for range n {
			s += words[random.IntN(len(words))]
			s += string(rune(0x4e00 + random.IntN(3000)))
		}
		return s
	}
	r := &pb.Report{
		ReportId: fmt.Sprintf("%016x%016x", random.Uint64(), sequence), Lane: liveLane, Tlp: pb.TlpLabel_TLP_LABEL_GREEN,
		Title: text(4), Summary: text(30),
		AttackTechnical: &pb.AttackTechnical{Indicators: []*pb.Indicator{{Value: fmt.Sprintf("198.%d.%d.%d", sequence>>16&255, sequence>>8&255, sequence&255)}}},
	}
	return wrapped(b, uint64(sequence), r), r
}

func BenchmarkReceive(b *testing.B) {
	s := newStore(b)
	random := rand.New(rand.NewPCG(1, 2))
	b.ResetTimer()
	for i := range b.N {
		d, r := samplePortReport(b, random, i+1)
		_, err := s.receive(context.Background(), liveLane, d, r, nil, nil)
		require.NoError(b, err)
	}
}

func BenchmarkPublish(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		require.NoError(b, s.publish(context.Background(), sampleRow(newID(b))))
	}
}

func BenchmarkSearchIn50000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "node.db")
	s := storeAt(b, path)
	_, err := s.write.Exec(`PRAGMA synchronous = OFF`)
	require.NoError(b, err)
	random := rand.New(rand.NewPCG(1, 2))
	const reports = 50_000
	for i := range reports {
		d, r := samplePortReport(b, random, i+1)
		_, err := s.receive(context.Background(), liveLane, d, r, nil, nil)
		require.NoError(b, err)
	}
	var bytes int64
	require.NoError(b, s.write.QueryRow(`SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`).Scan(&bytes))
	b.Logf("store of %d reports: %d MB", reports, bytes>>20)
	for _, query := range []string{"港", "停止", "ターミナル", "港湾 暗号化 TOS", "TOS", "一丁丂", "198.0.200.7", "198[.]0[.]200[.]7", ""} {
		b.Run(fmt.Sprintf("%q", query), func(b *testing.B) {
			for b.Loop() {
				_, _, err := s.search(context.Background(), liveLane, query, 100, "")
				require.NoError(b, err)
			}
		})
	}
	b.Run("counts", func(b *testing.B) {
		for b.Loop() {
			_, err := s.counts(context.Background())
			require.NoError(b, err)
		}
	})
	b.Run("quick_check", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, s.check())
		}
	})
}
