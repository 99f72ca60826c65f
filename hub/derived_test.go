package hub

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pb "minato.example/proto/minato/v1"
)

// What is derived from a report goes no further than the report: deriving is no
// way round the rules of passing on.
func TestWhatIsDerivedReachesOnlyWhoMayHaveTheParent(t *testing.T) {
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	kan := h.join("kanri", pb.Role_ROLE_PORT_AUTHORITY)
	h.join("seibi", pb.Role_ROLE_REGIONAL_DEVELOPMENT)
	h.join("mlit", pb.Role_ROLE_MINISTRY)
	h.join("police", pb.Role_ROLE_POLICE)
	parent := firstReport("kanri", "mlit")
	parent.Reason, parent.Impact.Business = pb.Reason_REASON_SHARING, pb.BusinessImpact_BUSINESS_IMPACT_STOPPED
	_, err := a.submit(parent, "parent")
	require.NoError(t, err)

	derive := func(parent *pb.Report, to ...string) *pb.Report {
		r := firstReport(to...)
		r.Reason, r.DerivedFrom, r.Kind = pb.Reason_REASON_SHARING, []string{parent.GetReportId()}, pb.Kind_KIND_NOTICE
		return r
	}
	_, err = kan.submit(derive(parent, "police"), "1")
	requireReason(t, err, "RECIPIENT_OUTSIDE_PARENT")
	_, err = kan.submit(derive(parent, "mlit", "a", "seibi"), "2")
	require.NoError(t, err, "it has the parent, reported it, or a rule asks to tell it (R4)")
	_, err = a.submit(derive(parent, "police"), "3")
	require.NoError(t, err, "one's own report is one's own to derive from")

	permitted := firstReport("kanri")
	permitted.Reason, permitted.OnwardPermissions = pb.Reason_REASON_SHARING, []*pb.OnwardPermission{{By: "port_authority", To: "police"}}
	_, err = a.submit(permitted, "permitted")
	require.NoError(t, err)
	_, err = kan.submit(derive(permitted, "police"), "4")
	require.NoError(t, err, "its source permits")

	forbidden := firstReport("kanri", "mlit")
	forbidden.Reason, forbidden.Restrictions = pb.Reason_REASON_SHARING, &pb.Restrictions{NoDistribution: true}
	forbidden.OnwardPermissions = permitted.GetOnwardPermissions()
	_, err = a.submit(forbidden, "forbidden")
	require.NoError(t, err)
	_, err = kan.submit(derive(forbidden, "police"), "5")
	requireReason(t, err, "RECIPIENT_OUTSIDE_PARENT")
	_, err = kan.submit(derive(forbidden, "mlit"), "6")
	require.NoError(t, err)
}

// A member that quotes a report which it may not see any more, through the
// report whose label it changes, is not taken for its source.
func TestWhoLostAParentPassesItOnToNobody(t *testing.T) {
	by, it := testMemberOf("by", pb.MemberState_MEMBER_STATE_ACTIVE), testMemberOf("it", pb.MemberState_MEMBER_STATE_ACTIVE)
	w := worldAt(testDirectory(), time.Unix(1_800_000_000, 0))
	handling := &pb.Handling{Tlp: pb.TlpLabel_TLP_LABEL_AMBER}
	lost := parent{Handling: handling, quoted: &quoted{
		outline: &pb.Outline{Tlp: handling.Tlp}, source: "source", holds: func(m string) bool { return m == "holder" },
	}}
	require.False(t, lost.mayHave(it, by, w))
	require.True(t, lost.mayHave(testMemberOf("holder", pb.MemberState_MEMBER_STATE_ACTIVE), by, w))
	require.True(t, lost.mayHave(testMemberOf("source", pb.MemberState_MEMBER_STATE_ACTIVE), by, w))
	require.True(t, parent{Handling: handling}.mayHave(it, by, w), "one's own report")
}
