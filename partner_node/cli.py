"""`partner-node`: the partner's command line."""

from partner_node.routes import ROUTERS
from partner_node.spec import SPEC
from shared_schema.web.terminal import Terminal


def main() -> None:
    Terminal(SPEC, ROUTERS).main()


if __name__ == "__main__":
    main()
