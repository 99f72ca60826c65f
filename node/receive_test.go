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

// What a copy rests on is said with it.
func TestACopySaysWhetherItsSourceHasSignedItAndWhetherTheSourceIsListed(t *testing.T) {
	h := newFakeHub(t, GRPC)
	n := h.run(t, h.join(t))
	require.NoError(t, n.fetchDirectory(t.Context()))
	item := func(id string) *pb.InboxItem {
		got, err := n.GetReport(t.Context(), &pb.GetReportRequest{Report: id})
		require.NoError(t, err)
		return got.GetReceived()
	}
	own := item(n.receives(t, h, incoming(t, liveLane, "発信元が署名")))
	require.False(t, own.GetHubSigned())
	require.False(t, own.GetSourceUnlisted())
	built := item(n.receives(t, h, incoming(t, liveLane, "ハブが署名"), func(d *pb.Delivery) {
		d.Envelope = seal.Sign(h.key, seal.LiveCopyType, d.GetEnvelope().GetPayload())
		d.Copy.Flow = pb.Flow_FLOW_PEER
	}))
	require.True(t, built.GetHubSigned())
	require.Equal(t, "terminal-b", built.GetSource(), "named on the word of the hub")
	gone := item(n.receives(t, h, incoming(t, liveLane, "名簿にない"), func(d *pb.Delivery) { d.Source = "nobody" }))
	require.True(t, gone.GetSourceUnlisted())
	require.False(t, gone.GetHubSigned())
	found, err := n.SearchInbox(t.Context(), &pb.SearchInboxRequest{Query: "ハブが署名"})
	require.NoError(t, err)
	require.Len(t, found.GetItems(), 1)
	require.True(t, found.GetItems()[0].GetHubSigned())

	peer := h.post(t, sound(t, "x", strict), n.keys.current().Public(), aLetter{copy: &pb.Copy{Flow: pb.Flow_FLOW_PEER}, byHub: true,
		inner: func(r *pb.Report) {
			r.Title, r.Summary, r.Reporter, r.Place, r.Impact, r.Recovery, r.Recipients = "", "", nil, nil, nil, nil, nil
		},
		header: func(s *pb.SealedReport) { s.Outline.Facts, s.Outline.Recipients = nil, nil }})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, peer).GetState(), "%v", h.answer(t, peer))
	require.True(t, item(peer).GetHubSigned(), "also what came sealed")
	sealed := h.post(t, sound(t, "x", strict), n.keys.current().Public(), aLetter{outer: func(d *pb.Delivery) { d.Source = "nobody" }})
	require.Equal(t, pb.ReceiptState_RECEIPT_STATE_STORED, h.answer(t, sealed).GetState(), "%v", h.answer(t, sealed))
	require.True(t, item(sealed).GetSourceUnlisted())
}
