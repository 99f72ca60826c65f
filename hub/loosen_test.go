package hub

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// carryOut signs an instruction and asks the hub.
func (m *testMember) carryOut(i *pb.Instruction) (*pb.Plan, error) {
	env, err := seal.SignInstruction(m.signing, i)
	require.NoError(m.t, err)
	return m.instruct(env, false)
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

// What the restrictions say in words goes to every recipient, also what came
// from a report that one derives from. It must not name whom a copy does not.
func TestTheWordsOfARestrictionNameNobodyInANamelessCopy(t *testing.T) {
	h := newHub(t, nil)
	a, ministry := h.join("a", pb.Role_ROLE_OPERATOR), h.join("mlit", pb.Role_ROLE_MINISTRY)
	h.join("b", pb.Role_ROLE_OPERATOR)
	profile := testProfile()
	profile.Organisation = "国土交通省港湾局"
	profile.Desks[0].Contacts = []*pb.Contact{{Name: "霞 太郎", Phone: "03-9999-9999"}, {Name: "関 次郎", Mail: "seki@mlit.example"}}
	profile.Persons[0].Name = "霞 太郎"
	_, err := ministry.hub.SetProfile(context.Background(), &pb.SetProfileRequest{Profile: profile})
	require.NoError(t, err)

	first := firstReport("mlit")
	first.Restrictions = &pb.Restrictions{Text: "試験ターミナルの許可なく引用しないこと"}
	_, err = a.submit(first, "1")
	require.NoError(t, err)

	// The source itself quotes its report to the authorities in one for peers.
	peers := firstReport("b")
	peers.Consents = &pb.Consents{}
	peers.AttackTechnical = &pb.AttackTechnical{Text: "手口だけを書いた本文"}
	peers.DerivedFrom = []string{first.GetReportId()}
	_, err = a.submit(peers, "2")
	require.Equal(t, "restrictions.text", requireReason(t, err, "NAME_REMAINS").Violations[0].Field)

	// So does whoever has it by name, in a warning that goes to everybody.
	warning := firstReport("b")
	warning.Kind, warning.Reason = pb.Kind_KIND_NOTICE, pb.Reason_REASON_SHARING
	warning.DerivedFrom = []string{first.GetReportId()}
	_, err = ministry.submit(warning, "1")
	require.Equal(t, "restrictions.text", requireReason(t, err, "NAME_REMAINS").Violations[0].Field)

	quiet := follow(first, "mlit")
	quiet.Restrictions = &pb.Restrictions{Text: "許可なく引用しないこと"}
	_, err = a.submit(quiet, "3")
	require.NoError(t, err)
	warning.DerivedFrom = []string{quiet.GetReportId()}
	_, err = ministry.submit(warning, "1")
	require.NoError(t, err)
}

func TestAWordOfAPermissionThatIsARoleMeansTheRoleAlone(t *testing.T) {
	police, terminal := pb.Role_ROLE_POLICE, pb.Role_ROLE_OPERATOR
	for _, c := range []struct {
		word  string
		id    string
		role  pb.Role
		means bool
	}{
		{"police", "hq", police, true}, {"POLICE", "hq", police, true}, {"police", "police", police, true},
		{"police", "police", terminal, false}, {"terminal", "terminal", terminal, true}, {"Terminal", "terminal", terminal, false},
		{"unspecified", "unspecified", terminal, false},
	} {
		require.Equal(t, c.means, means(c.word, &pb.Member{Id: c.id, Role: c.role}), "%+v", c)
	}
}
