package main

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
)

// lastOfCase finds the last report that was published here in a case. The case
// may be named by its id, by that of one of its reports, or by the start of
// either (6 digits or more). A refused report counts only when there is no
// other.
func lastOfCase(ctx context.Context, n pb.NodeServiceClient, name string) (*pb.Report, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	if len(name) < 6 || len(name) > 32 || strings.Trim(name, "0123456789abcdef") != "" {
		return nil, usage(
			textf("事案の ID %q を読めません", "cannot read the case id %q", cut(plain(name), 60)),
			Text{"16進数で 6 桁以上を指定してください。一覧: minato outbox", "give 6 hexadecimal digits or more. See minato outbox"})
	}
	items, err := ownReports(ctx, n)
	if err != nil {
		return nil, err
	}
	id, err := caseNamed(items, name)
	if err != nil {
		return nil, err
	}
	var last *pb.OutboxItem
	for _, item := range items {
		if item.GetCase() != id {
			continue
		}
		if last == nil || better(item, last) {
			last = item
		}
	}
	answer, err := n.GetReport(ctx, &pb.GetReportRequest{Report: last.GetReport()})
	if err != nil {
		return nil, err
	}
	return answer.GetReport(), nil
}

// better says whether a stands for its case rather than b.
func better(a, b *pb.OutboxItem) bool {
	refusedA := a.GetState() == pb.OutboxState_OUTBOX_STATE_REFUSED
	refusedB := b.GetState() == pb.OutboxState_OUTBOX_STATE_REFUSED
	if refusedA != refusedB {
		return refusedB
	}
	return a.GetSeq() > b.GetSeq()
}

// caseNamed is the one case that a name stands for.
func caseNamed(items []*pb.OutboxItem, name string) (string, error) {
	found := map[string]bool{}
	for _, item := range items {
		if strings.HasPrefix(item.GetCase(), name) || strings.HasPrefix(item.GetReport(), name) {
			found[item.GetCase()] = true
		}
	}
	switch len(found) {
	case 1:
		for id := range found {
			return id, nil
		}
	case 0:
		return "", usage(
			textf("事案 %s はこの端末から出したものの中にありません", "no case %s was published here", name),
			Text{"一覧: minato outbox", "see minato outbox"})
	}
	return "", usage(
		textf("%s で始まる事案が %d 件あります", "%s is the start of %d cases", name, len(found)),
		Text{"もっと長く指定してください。一覧: minato outbox", "give more digits. See minato outbox"})
}

// ownReports is the whole outbox, newest first.
func ownReports(ctx context.Context, n pb.NodeServiceClient) ([]*pb.OutboxItem, error) {
	var items []*pb.OutboxItem
	for req := (&pb.ListOutboxRequest{PageSize: 500}); ; {
		page, err := n.ListOutbox(ctx, req)
		if err != nil {
			return nil, err
		}
		items = append(items, page.GetItems()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return items, nil
		}
	}
}

// sameLane refuses to put an exercise into a real case and the reverse.
func sameLane(r, last *pb.Report) error {
	if r.GetLane() == last.GetLane() {
		return nil
	}
	if last.GetLane() == pb.Lane_LANE_EXERCISE {
		return usage(Text{"この事案は訓練です", "this case is an exercise"}, Text{"--exercise を付けてください", "add --exercise"})
	}
	return usage(Text{"この事案は訓練ではありません", "this case is not an exercise"}, Text{"--exercise を外してください", "leave --exercise out"})
}

// inherit takes over from the last report of the case who may read it and how
// it must be handled, wherever r says nothing of its own. A later report must
// not reach more people because somebody left a flag out.
func inherit(r, last *pb.Report) {
	r.CaseId, r.Lane = last.GetCaseId(), last.GetLane()
	if r.Tlp == pb.TlpLabel_TLP_LABEL_UNSPECIFIED {
		r.Tlp = last.GetTlp()
	}
	if r.CommunityId == "" && r.Tlp == last.GetTlp() {
		r.CommunityId = last.GetCommunityId()
	}
	if len(r.Recipients) == 0 && sameAddressing(r.GetTlp(), last.GetTlp()) {
		for _, to := range last.GetRecipients() {
			r.Recipients = append(r.Recipients, proto.CloneOf(to))
		}
	}
	mergeRestrictions(r, last)
	if r.SecrecyRegime == pb.SecrecyRegime_SECRECY_REGIME_UNSPECIFIED {
		r.SecrecyRegime = last.GetSecrecyRegime()
	}
	if len(r.OnwardPermissions) == 0 {
		for _, p := range last.GetOnwardPermissions() {
			r.OnwardPermissions = append(r.OnwardPermissions, proto.CloneOf(p))
		}
	}
	for _, id := range last.GetDerivedFrom() {
		if !slices.Contains(r.DerivedFrom, id) {
			r.DerivedFrom = append(r.DerivedFrom, id)
		}
	}
	if r.Kind == pb.Kind_KIND_UNSPECIFIED {
		r.Kind = last.GetKind()
	}
	if r.Classification == nil {
		r.Classification = proto.CloneOf(last.GetClassification())
	}
	if r.RouteChoice == pb.RouteChoice_ROUTE_CHOICE_UNSPECIFIED {
		r.RouteChoice = last.GetRouteChoice()
	}
	if r.Reason == pb.Reason_REASON_UNSPECIFIED {
		r.Reason = last.GetReason()
		for _, law := range last.GetLegalBasis() {
			r.LegalBasis = append(r.LegalBasis, proto.CloneOf(law))
		}
	}
	if r.Title == "" {
		r.Title = last.GetTitle()
	}
	keepFacts(r, last)
}

// sameAddressing says whether recipients for one label can serve the other:
// RED names persons, the others do not.
func sameAddressing(a, b pb.TlpLabel) bool {
	return (a == pb.TlpLabel_TLP_LABEL_RED) == (b == pb.TlpLabel_TLP_LABEL_RED)
}

// keepFacts takes over what is known of the case, so that a later report does
// not say UNKNOWN where an earlier one knew.
func keepFacts(r, last *pb.Report) {
	if r.Event == nil {
		r.Event = proto.CloneOf(last.GetEvent())
	}
	if r.Cause == nil {
		r.Cause = proto.CloneOf(last.GetCause())
	}
	if r.Impact == nil {
		r.Impact = proto.CloneOf(last.GetImpact())
	}
	if r.Spread == nil {
		r.Spread = proto.CloneOf(last.GetSpread())
	}
	if r.Recovery == nil {
		r.Recovery = proto.CloneOf(last.GetRecovery())
	}
	if r.PersonalData == pb.PersonalData_PERSONAL_DATA_UNSPECIFIED {
		r.PersonalData = last.GetPersonalData()
	}
	if r.Occurred == nil {
		r.Occurred = proto.CloneOf(last.GetOccurred())
	}
	if r.Recognised == nil {
		r.Recognised = proto.CloneOf(last.GetRecognised())
	}
	if r.Place == nil {
		r.Place = proto.CloneOf(last.GetPlace())
	}
	if len(r.AffectedSystems) == 0 {
		for _, s := range last.GetAffectedSystems() {
			r.AffectedSystems = append(r.AffectedSystems, proto.CloneOf(s))
		}
	}
}
