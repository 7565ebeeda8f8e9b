from components.baselines.stage import STAGE

STAGE.main()
