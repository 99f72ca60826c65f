package node

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// inherit raises the label and the restrictions of a report to those of the
// reports that it quotes or derives from (継承). A report without a label is
// left so: it is refused, whatever it quotes.
func (n *Node) inherit(ctx context.Context, r *pb.Report) error {
	for i, id := range r.GetDerivedFrom() {
		from, err := n.handlingOf(ctx, r.GetLane(), id)
		if errors.Is(err, errNotFound) || errors.Is(err, errInvalid) || errors.Is(err, errAmbiguous) {
			return errors.Join(rpc.Refuse(codes.InvalidArgument, "NOT_FOUND", fmt.Sprintf("derived_from[%d]", i),
				fmt.Sprintf("引用元の報告 %s はこの端末にありません。minato inbox で ID を確かめてください。", shown(id)),
				fmt.Sprintf("The quoted report %s is not on this node. Check the id with: minato inbox", shown(id))), err)
		}
		if err != nil {
			return err
		}
		r.DerivedFrom[i] = from.report
		own := check.Label(r.GetTlp())
		if own.Valid() && from.label.Valid() && from.label > own {
			r.Tlp = pb.TlpLabel(from.label)
			r.CommunityId = from.community // empty unless it is GREEN now
		}
		if joined := restrict(r.GetRestrictions(), from.restrictions); !proto.Equal(joined, r.GetRestrictions()) {
			r.Restrictions = joined
		}
		r.SecrecyRegime = secrecy(r.GetSecrecyRegime(), from.secrecy)
	}
	return nil
}

// inherited is what a report hands down to those that quote it.
type inherited struct {
	report       string // full id
	label        tlp.Label
	community    string
	restrictions *pb.Restrictions
	secrecy      pb.SecrecyRegime
}

// handlingOf finds a report of a lane, received or published here.
func (n *Node) handlingOf(ctx context.Context, lane pb.Lane, idOrPrefix string) (inherited, error) {
	id, err := n.store.resolve(ctx, idOrPrefix)
	if err != nil {
		return inherited{}, err
	}
	row, err := n.store.outboxRow(ctx, id)
	switch {
	case err == nil && row.lane == lane:
		own := new(pb.Report)
		if err := proto.Unmarshal(row.report, own); err != nil {
			return inherited{}, damaged(n.store.path, err)
		}
		return inherited{id, check.Label(own.GetTlp()), own.GetCommunityId(), own.GetRestrictions(), own.GetSecrecyRegime()}, nil
	case err != nil && !errors.Is(err, errNotFound):
		return inherited{}, err
	}
	item, err := n.store.item(ctx, lane, id)
	if err != nil {
		return inherited{}, err
	}
	r, d, err := n.store.reportOf(ctx, lane, id)
	if err != nil {
		return inherited{}, err
	}
	from := inherited{report: id, restrictions: item.GetRestrictions(), secrecy: item.GetSecrecyRegime()}
	if from.label, _, err = tlp.Parse(item.GetTlp()); err != nil {
		return inherited{}, damaged(n.store.path, err)
	}
	if from.label == tlp.Green {
		if from.community = d.GetHandling().GetCommunityId(); from.community == "" {
			from.community = r.GetCommunityId()
		}
	}
	return from, nil
}

// usualKind is what a member of our role usually reports: those who work at the
// port tell of their own incidents, all others warn. Before the hub was reached
// the role is not known: an incident, which shows less.
func (n *Node) usualKind(ctx context.Context) (pb.Kind, error) {
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return 0, err
	}
	switch memberOf(members, n.id.member).GetRole() {
	case pb.Role_ROLE_UNSPECIFIED, pb.Role_ROLE_OPERATOR, pb.Role_ROLE_PORT_COMPANY, pb.Role_ROLE_USERS:
		return pb.Kind_KIND_INCIDENT, nil
	}
	return pb.Kind_KIND_NOTICE, nil
}
