from stratavore.cli import main

raise SystemExit(main())
