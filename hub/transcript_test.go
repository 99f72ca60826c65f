package hub

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// A report that is withheld from a member leaves no trace there: everything that
// the member gets or can ask for is the same, to the byte, as if the report had
// never been. Times, keys and signatures differ between any two runs and are
// left out; everything else counts, sizes and numbers too.
func TestTheTranscriptOfANonRecipientIsTheSameWithAndWithoutAReport(t *testing.T) {
	with, without := whole(t, true), whole(t, false)
	require.NotEmpty(t, with)
	require.Equal(t, without, with)
}

// whole is everything that member c gets and can ask for while a reports
// to c, and, in one of the two runs, to others as well.
func whole(t *testing.T, withheld bool) (lines []string) {
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR, "ops"), h.join("b", pb.Role_ROLE_POLICE, "ops"), h.join("c", pb.Role_ROLE_PORT_AUTHORITY)
	note := func(what string, m proto.Message, err error) {
		line := what + ": "
		if m != nil {
			m = proto.Clone(m)
			forgetRun(m)
			line += fmt.Sprint(proto.Size(m), " ")
			text, merr := protojson.MarshalOptions{}.Marshal(m)
			require.NoError(t, merr)
			var again any
			require.NoError(t, json.Unmarshal(text, &again)) // protojson varies its spaces
			line += fmt.Sprint(again)
		}
		if err != nil {
			s, _ := proto.MarshalOptions{Deterministic: true}.Marshal(status.Convert(err).Proto())
			line += fmt.Sprintf("%x", s)
		}
		lines = append(lines, line)
	}
	ids := func(i int) string { return fmt.Sprintf("%032x", 0xa0000+i) }
	const reports = 24
	hidden := map[int]bool{}
	var visible int
	for i := range reports {
		r := firstReport("c")
		r.ReportId, r.CaseId, r.Reason = ids(i), ids(1000+i), pb.Reason_REASON_SHARING
		r.CreateTime, r.RetentionTime = timestamppb.New(time.Unix(1_800_000_000, 0)), timestamppb.New(time.Unix(1_900_000_000, 0))
		lane := seal.LiveReportType
		if i%5 == 4 {
			r.Lane, lane = pb.Lane_LANE_EXERCISE, seal.ExerciseReportType
		}
		switch i % 3 {
		case 1: // for b alone
			hidden[i] = true
			r.Recipients[0].Member = "b"
		case 2: // for a community without c
			hidden[i] = true
			r.Tlp, r.CommunityId, r.Recipients, r.Kind = pb.TlpLabel_TLP_LABEL_GREEN, "ops", nil, pb.Kind_KIND_NOTICE
		default:
			visible++
		}
		if hidden[i] && !withheld {
			continue
		}
		payload, err := proto.Marshal(r)
		require.NoError(t, err)
		_, err = a.submitBytes(payload, lane, fmt.Sprint("r-", i))
		require.NoError(t, err)
	}
	for _, lane := range []pb.Lane{pb.Lane_LANE_LIVE, pb.Lane_LANE_EXERCISE} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		want := 0
		for i := range reports {
			if !hidden[i] && (i%5 == 4) == (lane == pb.Lane_LANE_EXERCISE) {
				want++
			}
		}
		got := 0
		_ = c.watch(ctx, lane, func(d *pb.Delivery) {
			note("delivery", d, nil)
			if got++; got == want {
				time.AfterFunc(200*time.Millisecond, cancel) // what comes after it would be too much
			}
		})
		require.Equal(t, want, got)
		h.confirmed(c, lane, uint64(want)) // cursors are written a moment later
		note("heartbeat", c.firstHeartbeat(lane), nil)
	}
	// b has what was withheld from c: the run is what it says.
	if withheld {
		_, err := b.hub.ExplainReport(t.Context(), &pb.ExplainReportRequest{Lane: pb.Lane_LANE_LIVE, ReportId: ids(1), Member: "b"})
		require.NoError(t, err)
	}
	members, err := c.hub.ListMembers(t.Context(), &pb.ListMembersRequest{})
	note("members", members, err)
	for i := range reports {
		if !hidden[i] {
			continue
		}
		for _, lane := range []pb.Lane{pb.Lane_LANE_LIVE, pb.Lane_LANE_EXERCISE} {
			c.askAbout(lane, ids(i), note)
		}
	}
	require.Greater(t, visible, 5)
	return lines
}

// askAbout asks everything that a member can ask about a report.
func (m *testMember) askAbout(lane pb.Lane, id string, note func(string, proto.Message, error)) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	receipts, err := m.hub.ListReceipts(ctx, &pb.ListReceiptsRequest{Lane: lane, ReportId: id})
	note("receipts", receipts, err)
	for _, member := range []string{"a", "b", m.id.member, "nobody"} {
		why, err := m.hub.ExplainReport(ctx, &pb.ExplainReportRequest{Lane: lane, ReportId: id, Member: member})
		note("explain "+member, why, err)
	}
	digest := sha256.Sum256([]byte("part"))
	stream, err := m.hub.DownloadPart(ctx, &pb.DownloadPartRequest{Lane: lane, ReportId: id, Digest: digest[:]})
	require.NoError(m.t, err)
	_, err = stream.Recv()
	require.NotErrorIs(m.t, err, io.EOF)
	note("part", nil, err)
	payload, err := proto.Marshal(&pb.DeliveryReceipt{
		ReportId: id, Lane: lane, PayloadDigest: digest[:], Member: m.id.member, Node: m.id.number,
		State: pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED, Reaction: pb.Reaction_REACTION_SEEN, ReceiptTime: timestamppb.Now(),
	})
	require.NoError(m.t, err)
	_, err = m.hub.AcknowledgeReport(ctx, &pb.AcknowledgeReportRequest{Receipt: seal.Sign(m.signing, seal.DeliveryReceiptType, payload)})
	note("acknowledge", nil, err)
	for _, preview := range []bool{true, false} {
		in, err := proto.Marshal(&pb.Instruction{
			Lane: lane, ReportId: id, InstructionId: fmt.Sprintf("%032x", 7), CreateTime: timestamppb.Now(),
			Action: &pb.Instruction_Forward{Forward: &pb.Forward{Recipients: []*pb.Recipient{{Member: "b"}}}},
		})
		require.NoError(m.t, err)
		_, err = m.hub.InstructReport(ctx, &pb.InstructReportRequest{Instruction: seal.Sign(m.signing, seal.InstructionType, in), Preview: preview})
		note("forward", nil, err)
	}
	r := firstReport("a")
	r.ReportId, r.CaseId, r.DerivedFrom, r.Lane, r.Reason = fmt.Sprintf("%032x", 8), fmt.Sprintf("%032x", 9), []string{id}, lane, pb.Reason_REASON_SHARING
	_, err = m.hub.PlanReport(ctx, &pb.PlanReportRequest{Report: r})
	note("derive", nil, err)
	r.DerivedFrom, r.Relabels = nil, id
	_, err = m.hub.PlanReport(ctx, &pb.PlanReportRequest{Report: r})
	note("relabel", nil, err)
}

// firstHeartbeat opens a session and reads the heartbeat that begins it.
func (m *testMember) firstHeartbeat(lane pb.Lane) *pb.Heartbeat {
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	stream, err := m.hub.WatchDeliveries(ctx)
	require.NoError(m.t, err)
	require.NoError(m.t, stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Open{Open: &pb.OpenSessionRequest{Lane: lane}}}))
	for {
		resp, err := stream.Recv()
		require.NoError(m.t, err)
		if beat := resp.GetMessage().GetHeartbeat(); beat != nil {
			return beat
		}
	}
}

// forgetRun takes out of a message what differs between any two runs: times,
// keys and signatures.
func forgetRun(m proto.Message) {
	switch m := m.(type) {
	case *pb.Delivery:
		m.AcceptTime, m.SourceKey = nil, nil
		for _, s := range m.GetEnvelope().GetSignatures() {
			s.KeyId, s.Signature = "", nil
		}
	case *pb.ListMembersResponse:
		for _, member := range m.GetMembers() {
			member.Keys = nil
			for _, n := range member.GetNodes() {
				n.SigningKey, n.JoinTime = nil, nil
			}
		}
	}
}
