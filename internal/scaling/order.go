package scaling

import "fmt"

// Check says what an order will do, or refuses it (ErrRefused, ErrUnknownInstance)
// by what is known now. It is asked before an order is taken; the decision asks
// again when it is followed.
func (s *State) Check(o Order, g Group) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
	}
	if err := s.errLetGo(); err != nil {
		return "", err
	}
	if len(s.Orders) >= maxOrders {
		return refuse("%d orders are waiting already", len(s.Orders))
	}
	if o.Instance != "" {
		i := s.Find(o.Instance)
		switch {
		case i == nil:
			return "", fmt.Errorf("%w: %q", ErrUnknownInstance, o.Instance)
		case i.State != StateInService:
			return refuse("%s is %s, not in_service", i.Name, i.State)
		case i.Protected:
			return refuse("%s is protected", i.Name)
		}
	}
	c := s.Capacity()
	switch o.Kind {
	case OrderScaleOut:
		if o.Count < 1 {
			return refuse("count must be at least 1, not %d", o.Count)
		}
		if c+o.Count > g.Max {
			return refuse("%d and %d more are over max %d", c, o.Count, g.Max)
		}
		return fmt.Sprintf("will launch %d", o.Count), nil
	case OrderScaleIn:
		if o.Count < 1 || (o.Instance != "" && o.Count != 1) {
			return refuse("count must be at least 1, and 1 with an instance, not %d", o.Count)
		}
		if c-o.Count < g.Min {
			return refuse("%d and %d fewer are under min %d", c, o.Count, g.Min)
		}
		return fmt.Sprintf("will drain and remove %d", o.Count), nil
	case OrderHandover:
		if o.Instance == "" && s.Primary == "" {
			return refuse("the group has no primary")
		}
		return "will make sure of a successor, then drain and remove the old one", nil
	case OrderSetDesired:
		if o.Count < g.Min || o.Count > g.Max {
			return refuse("%d is outside min %d and max %d", o.Count, g.Min, g.Max)
		}
		return fmt.Sprintf("will go from %d to %d", c, o.Count), nil
	}
	return refuse("unknown kind of order %q", o.Kind)
}

// maxOrders bounds the orders that wait in one group.
const maxOrders = 16
