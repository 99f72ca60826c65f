package node

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// FuzzDelivery reads arbitrary bytes as a delivery. What verify takes was signed
// by the source's key for this lane, has a label, names persons where the label
// wants them, and can be stored; a second delivery of it is not a second report.
func FuzzDelivery(f *testing.F) {
	source := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	add := func(alter func(*pb.Report, *pb.Delivery)) {
		r := incoming(f, liveLane, "件名")
		d := &pb.Delivery{DeliverySequence: 1, Lane: liveLane, ReportId: r.GetReportId(), Source: "terminal-b", Copy: &pb.Copy{Member: "terminal-a"}}
		alter(r, d)
		payload, err := proto.Marshal(r)
		require.NoError(f, err)
		d.Envelope, d.SourceKey = seal.Sign(source, seal.ReportType(r.GetLane()), payload), source.Public().(ed25519.PublicKey)
		data, err := proto.Marshal(d)
		require.NoError(f, err)
		f.Add(data)
	}
	add(func(*pb.Report, *pb.Delivery) {})
	add(func(r *pb.Report, d *pb.Delivery) {
		r.Tlp, d.Copy.Persons = pb.TlpLabel_TLP_LABEL_RED, []string{"ciso"}
	})
	add(func(r *pb.Report, _ *pb.Delivery) { r.Tlp = pb.TlpLabel_TLP_LABEL_RED })
	add(func(r *pb.Report, _ *pb.Delivery) { r.Tlp = 257 })
	add(func(r *pb.Report, d *pb.Delivery) { r.Lane, d.Lane = exerciseLane, exerciseLane })
	add(func(r *pb.Report, d *pb.Delivery) { r.ReportId, d.ReportId = "", "" })
	f.Add([]byte(nil))
	s := newStore(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		d := new(pb.Delivery)
		if proto.Unmarshal(data, d) != nil {
			return
		}
		for _, lane := range lanes {
			r, err := verify(lane, d)
			if err != nil {
				require.Nil(t, r)
				continue
			}
			signed, err := seal.Verify(d.GetEnvelope(), seal.ReportType(lane), d.GetSourceKey())
			require.NoError(t, err)
			want := new(pb.Report)
			require.NoError(t, proto.Unmarshal(signed, want))
			require.True(t, proto.Equal(want, r))
			require.Equal(t, lane, r.GetLane())
			label, _, err := tlp.Parse(labelOf(r))
			require.NoError(t, err)
			require.True(t, label != tlp.Red || len(d.GetCopy().GetPersons()) > 0)
			if len(r.Parts()) > 0 {
				continue // they would have to be fetched
			}
			_, err = s.receive(t.Context(), lane, d, r, nil, nil)
			require.NoError(t, err, "what is verified can be stored, or it would come for ever")
			isNew, err := s.receive(t.Context(), lane, d, r, nil, nil)
			require.NoError(t, err)
			require.False(t, isNew)
		}
	})
}
