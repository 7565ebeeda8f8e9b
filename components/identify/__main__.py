from components.identify.stage import STAGE

STAGE.main()
