package hub

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// instruct signs an instruction and asks the hub.
func (m *testMember) instruct(i *pb.Instruction) (*pb.Plan, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	env, err := seal.SignInstruction(m.signing, i)
	require.NoError(m.t, err)
	resp, err := m.hub.InstructReport(ctx, &pb.InstructReportRequest{Instruction: env})
	return resp.GetPlan(), err
}

func (m *testMember) forward(report string, to ...string) (*pb.Plan, error) {
	f := &pb.Forward{}
	for _, id := range to {
		f.Recipients = append(f.Recipients, &pb.Recipient{Member: id})
	}
	return m.instruct(&pb.Instruction{Lane: pb.Lane_LANE_LIVE, ReportId: report, InstructionId: newID(), Action: &pb.Instruction_Forward{Forward: f}})
}

// follow is the next report of the same case.
func follow(r *pb.Report, to ...string) *pb.Report {
	next := firstReport(to...)
	next.CaseId, next.Sequence, next.Stage = r.GetCaseId(), r.GetSequence()+1, pb.Stage_STAGE_FOLLOW_UP
	return next
}

// Whoever quotes a report under TLP:AMBER may not make it TLP:CLEAR in two
// steps: first quote it, then relabel the own report.
func TestARelabellingIsNoLooserThanWhatTheReportDerivesFrom(t *testing.T) {
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	h.join("c", pb.Role_ROLE_OPERATOR)
	h.join("d", pb.Role_ROLE_OPERATOR)
	parent := firstReport("b")
	_, err := a.submit(parent, "1")
	require.NoError(t, err)
	child := firstReport("c")
	child.DerivedFrom = []string{parent.GetReportId()}
	_, err = b.submit(child, "1")
	require.NoError(t, err)

	relabel := func(label pb.TlpLabel, to ...string) error {
		r := follow(child, to...)
		r.Tlp, r.Relabels = label, child.GetReportId()
		_, err := b.submit(r, newID())
		return err
	}
	requireReason(t, relabel(pb.TlpLabel_TLP_LABEL_CLEAR), "LABEL_LOOSER_THAN_SOURCE")

	// Once the source of what it derives from has made that wider, it may.
	wider := follow(parent, "b")
	wider.Tlp, wider.Relabels = pb.TlpLabel_TLP_LABEL_CLEAR, parent.GetReportId()
	_, err = a.submit(wider, "2")
	require.NoError(t, err)
	require.NoError(t, relabel(pb.TlpLabel_TLP_LABEL_CLEAR))
}
