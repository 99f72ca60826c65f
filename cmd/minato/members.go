package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) membersCommand() *cobra.Command {
	return a.command("members", about{
		short:   Text{"港の会員と、名指しできる人を表示します", "List the members of the port and the persons who can be named"},
		example: "minato members",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			members, err := peers(ctx, n)
			if err != nil {
				return err
			}
			list := a.list("ID", a.t("役割", "role"), a.t("状態", "state"), a.t("人", "persons"), a.t("コミュニティ", "communities"), a.t("名称", "name"))
			for _, m := range members {
				if a.json {
					if err := a.emitFull(m); err != nil {
						return err
					}
					continue
				}
				var persons []string
				for _, p := range m.GetProfile().GetPersons() {
					persons = append(persons, plain(p.GetId()))
				}
				if err := list.add(plain(m.GetId()), a.roleOf(m), word(m.GetState()).in(a.lang),
					strings.Join(persons, ","), plain(strings.Join(m.GetCommunities(), ",")), plain(m.GetName())); err != nil {
					return err
				}
			}
			if len(members) == 0 {
				a.talk(Text{"会員一覧はまだ届いていません。ハブにつながると届きます。", "the directory has not arrived yet; it comes with the first contact with the hub"})
			}
			return list.end()
		})
	})
}

// roleOf is the role of a member with what it holds for: the ports of an office,
// the agreement of an expert body.
func (a *app) roleOf(m *pb.Member) string {
	role := word(m.GetRole()).in(a.lang)
	var more []string
	for _, port := range m.GetJurisdictions() {
		more = append(more, plain(port))
	}
	if m.GetNda() {
		more = append(more, a.t("秘密保持契約", "non-disclosure-agreement"))
	}
	if len(more) > 0 {
		role += "(" + strings.Join(more, ",") + ")"
	}
	return role
}

// peers is the whole directory as the node last saw it.
func peers(ctx context.Context, n pb.NodeServiceClient) ([]*pb.Member, error) {
	var members []*pb.Member
	for req := (&pb.ListPeersRequest{}); ; {
		page, err := n.ListPeers(ctx, req)
		if err != nil {
			return nil, err
		}
		members = append(members, page.GetMembers()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return members, nil
		}
	}
}
